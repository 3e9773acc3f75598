# -DWEFT_SANITIZE=address,undefined (or thread): instruments every target of the project.
set(WEFT_SANITIZE "" CACHE STRING "Sanitizers, comma separated")
if(WEFT_SANITIZE)
  add_compile_options(-fsanitize=${WEFT_SANITIZE} -fno-sanitize-recover=all -fno-omit-frame-pointer -g)
  add_link_options(-fsanitize=${WEFT_SANITIZE})
endif()
