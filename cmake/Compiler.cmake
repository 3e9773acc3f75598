# What GCC, Clang and clang-cl are told, and in which words.

if(NOT CMAKE_CXX_COMPILER_ID MATCHES "GNU|Clang")
  message(FATAL_ERROR "treadle: the kernels are written in the vector extensions of GCC and Clang, which "
                      "${CMAKE_CXX_COMPILER_ID} lacks. On Windows, configure with -G Ninja "
                      "-DCMAKE_CXX_COMPILER=clang++; pip takes the environment variables "
                      "CMAKE_GENERATOR=Ninja and CXX=clang++.")
endif()

# As target_compile_options, with the options of GCC and Clang. clang-cl takes them behind /clang:,
# and zig spells the levels of CPUs in its own way.
function(treadle_compile_options target scope)
  set(options ${ARGN})
  if(TREADLE_ZIG_TARGET)
    list(TRANSFORM options REPLACE "^-march=x86-64-" "-march=x86_64_")
    list(TRANSFORM options REPLACE "^-march=armv8.2-a" "-mcpu=generic+v8_2a")
  endif()
  if(MSVC)
    list(TRANSFORM options PREPEND "/clang:")
  endif()
  target_compile_options(${target} ${scope} ${options})
endfunction()

# A thread may have a stack of 64 KiB only, of which no function takes more than a quarter. Sanitizers
# and builds that are not optimised need more.
set(TREADLE_WARNINGS -Wall -Wextra)
if(CMAKE_BUILD_TYPE STREQUAL "Release" AND NOT TREADLE_SANITIZE)
  if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
    list(APPEND TREADLE_WARNINGS -Werror=frame-larger-than=16384)
  else()
    list(APPEND TREADLE_WARNINGS -Wframe-larger-than=16384 -Werror=frame-larger-than)
  endif()
endif()
