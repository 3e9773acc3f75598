// The tiles of AMX: whether the CPU has them and the kernel lets this process use them.
#pragma once

namespace treadle {

// Tells whether the CPU has tiles of the size that the kernels expect, for bfloat16 and int8, and
// the kernel keeps them for each thread. Linux wants to be asked first (since 5.16): the answer
// counts for all threads of the process and for its children. It refuses where a thread's stack for
// signals has no room for the tiles, and once it has agreed, it refuses such stacks.
bool may_use_tiles();

}  // namespace treadle
