# The kernels are compiled once per ISA level, each into an object library of its own.
# This file is the only place with -m flags; the rest of the project is compiled for the
# baseline of the architecture, so that it may run before the CPU has been looked at.

# Adds cpp/kernels/fill.cpp once more, inside namespace weft::<isa>, to `target`.
function(weft_add_isa target isa)
  add_library(kernels_${isa} OBJECT ${PROJECT_SOURCE_DIR}/cpp/kernels/fill.cpp)
  target_include_directories(kernels_${isa} PRIVATE ${PROJECT_SOURCE_DIR}/cpp)
  target_compile_definitions(kernels_${isa} PRIVATE WEFT_ISA=${isa} WEFT_ISA_${isa})
  # No contraction: a rounding happens where the source says so, on every ISA.
  # -fno-math-errno and -fno-trapping-math only drop promises that nobody reads.
  target_compile_options(kernels_${isa} PRIVATE ${ARGN} -Wall -Wextra -fvisibility=hidden
    -ffp-contract=off -fno-math-errno -fno-trapping-math
    # GCC 12 warns about the undefined pass-through operand inside its own AVX-512 header.
    -Wno-uninitialized -Wno-maybe-uninitialized)
  # GCC's LTO may keep one copy of a function built with different flags (GCC bug 110334).
  set_target_properties(kernels_${isa} PROPERTIES INTERPROCEDURAL_OPTIMIZATION OFF)
  if(CMAKE_BUILD_TYPE STREQUAL "Release")
    target_compile_options(kernels_${isa} PRIVATE -O3)
  endif()
  target_sources(${target} PRIVATE $<TARGET_OBJECTS:kernels_${isa}>)
  target_compile_definitions(${target} PRIVATE WEFT_HAS_${isa})
endfunction()

function(weft_add_kernels target)
  weft_add_isa(${target} portable)
  if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
    weft_add_isa(${target} avx2 -march=x86-64-v3)
    weft_add_isa(${target} avx512 -march=x86-64-v4 -mprefer-vector-width=512)
  endif()
endfunction()
