// The features of a 64-bit Arm CPU that the levels of the kernels ask for (runtime/isa).
#pragma once

namespace treadle::arm {

bool has_dotprod();
bool has_i8mm();  // implies has_dotprod()
bool has_bf16();  // implies has_i8mm()

}  // namespace treadle::arm
