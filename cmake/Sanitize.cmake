# -DTREADLE_SANITIZE=address,undefined (or thread): instruments every target of the project. A report
# names functions and lines (-g1); with -g, which describes variables too, GCC takes twice the time.
set(TREADLE_SANITIZE "" CACHE STRING "Sanitizers, comma separated")
if(TREADLE_SANITIZE)
  add_compile_options(-fsanitize=${TREADLE_SANITIZE} -fno-sanitize-recover=all -fno-omit-frame-pointer -g1)
  add_link_options(-fsanitize=${TREADLE_SANITIZE})
endif()
