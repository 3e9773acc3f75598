# Cross-compiles for TREADLE_ZIG_TARGET with the Clang and the C libraries of zig (`pip install
# ziglang`): x86_64-linux-musl, whose programs run on any Linux; x86_64-windows-gnu, whose programs
# run under wine; aarch64-macos, whose programs this machine cannot run.
list(APPEND CMAKE_TRY_COMPILE_PLATFORM_VARIABLES TREADLE_ZIG_TARGET)
if(NOT TREADLE_ZIG_TARGET MATCHES "^([^-]+)-(linux|windows|macos)")
  message(FATAL_ERROR "treadle: TREADLE_ZIG_TARGET is '${TREADLE_ZIG_TARGET}', expected a target of zig "
                      "such as x86_64-windows-gnu")
endif()
set(CMAKE_SYSTEM_PROCESSOR ${CMAKE_MATCH_1})
set(system_of_linux Linux)
set(system_of_windows Windows)
set(system_of_macos Darwin)
set(CMAKE_SYSTEM_NAME ${system_of_${CMAKE_MATCH_2}})

execute_process(
  COMMAND python3 -c "import ziglang, pathlib; print(pathlib.Path(ziglang.__file__).parent / 'zig')"
  OUTPUT_VARIABLE zig OUTPUT_STRIP_TRAILING_WHITESPACE COMMAND_ERROR_IS_FATAL ANY)
set(CMAKE_CXX_COMPILER ${zig} c++ -target ${TREADLE_ZIG_TARGET})
# zig builds its C++ library once for each kind of optimisation: checks and tests share that of -O1.
set(CMAKE_CXX_FLAGS_INIT -O1)
# CMake knows these tools by one word only.
foreach(tool ar ranlib)
  set(script ${CMAKE_BINARY_DIR}/zig-${tool})
  file(WRITE ${script} "#!/bin/sh\nexec '${zig}' ${tool} \"$@\"\n")
  file(CHMOD ${script} PERMISSIONS OWNER_READ OWNER_WRITE OWNER_EXECUTE)
endforeach()
set(CMAKE_AR ${CMAKE_BINARY_DIR}/zig-ar)
set(CMAKE_RANLIB ${CMAKE_BINARY_DIR}/zig-ranlib)

# The only package that is looked for, doctest, is one of headers.
list(APPEND CMAKE_PREFIX_PATH /usr)
if(CMAKE_SYSTEM_NAME STREQUAL "Windows")
  find_program(TREADLE_WINE NAMES wine64 wine PATHS /usr/lib/wine)
  set(CMAKE_CROSSCOMPILING_EMULATOR ${TREADLE_WINE})
elseif(CMAKE_SYSTEM_NAME STREQUAL "Darwin")
  set(CMAKE_INSTALL_NAME_TOOL ${zig})  # CMake wants one to be there, and nothing is installed
endif()
