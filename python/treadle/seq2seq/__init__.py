"""Recurrent nets that read one sequence, or features, and write another.

module     `treadle.Seq2Seq`
connected  its base: encoder, decoder, and what connects them, as one module
entries    how its configuration has an encoder and a decoder
structure  which layers an encoder and a decoder consist of
sizes      whether their sizes fit, and the layers that connect them
decoding   a decoder between two steps, for search
state      its first state
memory     what an encoder has read, and the attention to it
"""
