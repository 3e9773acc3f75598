# The kernels are compiled once per ISA level, each into an object library of its own.
# This file is the only place with -m flags; the rest of the project is compiled for the
# baseline of the architecture, so that it may run before the CPU has been looked at.

set(TREADLE_ISAS portable)
if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
  list(APPEND TREADLE_ISAS avx2 avx512 avx512_bf16)
  set(TREADLE_FLAGS_avx2 -march=x86-64-v3)
  set(TREADLE_FLAGS_avx512 -march=x86-64-v4 -mprefer-vector-width=512)
  # Zen 4, Cooper Lake, Sapphire Rapids: avx512 with dot products of bfloat16 and int8.
  set(TREADLE_FLAGS_avx512_bf16 ${TREADLE_FLAGS_avx512} -mavx512bf16 -mavx512vnni)
  set(TREADLE_ALSO_avx512_bf16 TREADLE_ISA_avx512)  # what else the sources are told
  # Few CPUs have no higher level, so that the size of this one counts more than its speed.
  set(TREADLE_OPTIMIZE_portable -O2)
  # Sapphire Rapids and later: avx512_bf16 with tiles of bfloat16 and int8, from a source of its own.
  # Linux alone is asked for them.
  set(TREADLE_FLAGS_amx ${TREADLE_FLAGS_avx512_bf16} -mamx-tile -mamx-bf16 -mamx-int8)
  set(TREADLE_ALSO_amx TREADLE_ISA_avx512 TREADLE_ISA_avx512_bf16)
  # The same kernels over a model of the tiles, which tests include before the source.
  set(TREADLE_FLAGS_amx_model ${TREADLE_FLAGS_avx512_bf16})
  set(TREADLE_ALSO_amx_model ${TREADLE_ALSO_amx})
elseif(CMAKE_SYSTEM_PROCESSOR MATCHES "aarch64|arm64|ARM64")
  list(APPEND TREADLE_ISAS neon neon_dotprod neon_i8mm neon_bf16)
  # Every 64-bit Arm CPU has NEON. Each level above adds one extension; the last two come together:
  # Neoverse V1 and N2 (Graviton 3), Apple M2.
  # GCC's first scheduler moves loads up until the 24 sums of a tile no longer fit into registers.
  if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
    set(TREADLE_FLAGS_neon -fno-schedule-insns)
  endif()
  set(TREADLE_FLAGS_neon_dotprod ${TREADLE_FLAGS_neon} -march=armv8.2-a+dotprod)
  set(TREADLE_FLAGS_neon_i8mm ${TREADLE_FLAGS_neon} -march=armv8.2-a+dotprod+i8mm)
  set(TREADLE_FLAGS_neon_bf16 ${TREADLE_FLAGS_neon} -march=armv8.2-a+dotprod+i8mm+bf16)
  set(TREADLE_ALSO_neon_dotprod TREADLE_ISA_neon)
  set(TREADLE_ALSO_neon_i8mm ${TREADLE_ALSO_neon_dotprod} TREADLE_ISA_neon_dotprod)
  set(TREADLE_ALSO_neon_bf16 ${TREADLE_ALSO_neon_i8mm} TREADLE_ISA_neon_i8mm)
endif()
# Threads share memory in the engine, whatever instructions the kernels have: the thread sanitizer,
# under which the wide kernels take longest to compile, looks at two levels.
if(TREADLE_SANITIZE MATCHES "thread")
  list(REMOVE_ITEM TREADLE_ISAS avx512 avx512_bf16)
endif()
set(TREADLE_LEAVE_OUT "" CACHE STRING "Levels that a build does without, separated by semicolons")
foreach(isa IN LISTS TREADLE_LEAVE_OUT)
  list(REMOVE_ITEM TREADLE_ISAS ${isa})
endforeach()
set(TREADLE_TILES OFF)
if(CMAKE_SYSTEM_NAME STREQUAL "Linux" AND "avx512_bf16" IN_LIST TREADLE_ISAS AND
   NOT "amx" IN_LIST TREADLE_LEAVE_OUT)
  set(TREADLE_TILES ON)
endif()

# Compiles `source` for one level, inside namespace treadle::<isa>, and adds the object to `target`:
# an object library <name>_<isa>, and TREADLE_HAS_<isa> for whoever calls it.
function(treadle_add_isa target name source isa)
  set(objects ${name}_${isa})
  add_library(${objects} OBJECT ${source})
  target_include_directories(${objects} PRIVATE ${PROJECT_SOURCE_DIR}/cpp)
  target_compile_definitions(${objects} PRIVATE TREADLE_ISA=${isa} TREADLE_ISA_${isa}
    ${TREADLE_ALSO_${isa}})
  # No contraction: a rounding happens where the source says so, on every ISA.
  # -fno-math-errno and -fno-trapping-math only drop promises that nobody reads.
  # Kernels neither throw nor call what does. Without -fno-exceptions, GCC still asks for the
  # handler of exceptions where a function that is not inlined lies beside arrays on the stack,
  # and each object then has a weak symbol of its own for it.
  treadle_compile_options(${objects} PRIVATE ${TREADLE_FLAGS_${isa}} ${TREADLE_WARNINGS}
    -fvisibility=hidden -ffp-contract=off -fno-math-errno -fno-trapping-math
    -fno-exceptions)
  # GCC 12 warns about the undefined pass-through operand inside its own AVX-512 header.
  if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
    target_compile_options(${objects} PRIVATE -Wno-uninitialized -Wno-maybe-uninitialized)
  endif()
  # GCC's LTO may keep one copy of a function built with different flags (GCC bug 110334).
  set_target_properties(${objects} PROPERTIES INTERPROCEDURAL_OPTIMIZATION OFF)
  if(CMAKE_BUILD_TYPE STREQUAL "Release")
    treadle_compile_options(${objects} PRIVATE -O3 ${TREADLE_OPTIMIZE_${isa}})
    # Tiles ask for what a call wants once. A loop for each answer would be most of the code.
    if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
      target_compile_options(${objects} PRIVATE -fno-unswitch-loops -fno-ipa-cp-clone)
    endif()
  endif()
  target_sources(${target} PRIVATE $<TARGET_OBJECTS:${objects}>)
  target_compile_definitions(${target} PRIVATE TREADLE_HAS_${isa})
endfunction()

# Compiles `source` so once per level.
function(treadle_add_for_each_isa target name source)
  foreach(isa IN LISTS TREADLE_ISAS)
    treadle_add_isa(${target} ${name} ${source} ${isa})
  endforeach()
endfunction()
