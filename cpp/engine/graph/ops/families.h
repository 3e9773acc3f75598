// Each family of operators lists its own in the table: ONNX's name in its newest form, or a name
// treadle.X where a node of the graph has been made by a fusion or a change of layout.
#pragma once

#include "engine/graph/operator.h"

namespace treadle::graph {

// Returns all operators.
const OperatorTable& operators();

void list_shapes(OperatorTable& table);    // Reshape, Shape, Range, ...
void list_movement(OperatorTable& table);  // Transpose, Slice, ...: the elements stay what they are
void list_pad(OperatorTable& table);
void list_gather(OperatorTable& table);   // Gather, GatherND, OneHot, ...
void list_scatter(OperatorTable& table);  // ScatterElements, ScatterND
void list_select(OperatorTable& table);   // Where, TopK, NonZero, ...
void list_cast(OperatorTable& table);
void list_products(OperatorTable& table);      // treadle.Linear, MatMul, Gemm
void list_conv(OperatorTable& table);          // treadle.Conv, treadle.ConvTranspose
void list_conv_general(OperatorTable& table);  // Conv, ConvTranspose
void list_recurrent(OperatorTable& table);     // treadle.Recurrent, RNN, GRU, LSTM
void list_quantized_lstm(OperatorTable& table);
void list_norms(OperatorTable& table);       // Softmax, LayerNormalization, ...
void list_attention(OperatorTable& table);   // treadle.Attention, Attention
void list_control(OperatorTable& table);     // If, Loop, Scan
void list_arithmetic(OperatorTable& table);  // Add, Pow, Max, ...
void list_logic(OperatorTable& table);       // Equal, And, BitShift, IsNaN, ...
void list_functions(OperatorTable& table);   // Exp, Sigmoid, Gelu, ...
void list_numeric(OperatorTable& table);     // Neg, Relu, Clip, ...
void list_pool(OperatorTable& table);        // treadle.MaxPool, treadle.GlobalAveragePool, ...
void list_resize(OperatorTable& table);      // treadle.Resize
void list_reduce(OperatorTable& table);      // ReduceSum, ReduceMax, ...
void list_scan_axis(OperatorTable& table);   // ArgMax, ArgMin, CumSum
void list_quantize(OperatorTable& table);    // QuantizeLinear, DynamicQuantizeLinear, ...
void list_quantized_matmul(OperatorTable& table);  // MatMulInteger, QLinearMatMul
void list_quantized_conv(OperatorTable& table);    // ConvInteger, QLinearConv

}  // namespace treadle::graph
