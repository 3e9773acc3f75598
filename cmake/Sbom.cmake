# Writes the bill of materials of the extension (CycloneDX) and installs it where PEP 770 expects it.
#
# It names what is compiled into the extension: headers of pybind11, and the C++ library where that is
# linked statically. NumPy and safetensors are not in the wheel, whose metadata requires them.
#
# TREADLE_SBOM is for `python -m build`. pip asks scikit-build-core for the metadata before CMake has
# run, and scikit-build-core refuses a wheel that has more of it afterwards.
if(NOT DEFINED SKBUILD_METADATA_DIR)
  message(FATAL_ERROR "TREADLE_SBOM needs a build by scikit-build-core")
endif()

# Appends a component, and a reference to it, to the lists that the template shows. `licence` is an
# SPDX expression.
function(treadle_add_component name version purl licence)
  string(CONFIGURE [[
    {
      "type": "library",
      "bom-ref": "@purl@",
      "name": "@name@",
      "version": "@version@",
      "purl": "@purl@",
      "licenses": [{"expression": "@licence@"}]
    }]] component @ONLY)
  string(JOIN ",\n" components ${TREADLE_COMPONENTS} "${component}")
  string(JOIN ", " references ${TREADLE_REFERENCES} "\"${purl}\"")
  set(TREADLE_COMPONENTS "${components}" PARENT_SCOPE)
  set(TREADLE_REFERENCES "${references}" PARENT_SCOPE)
endfunction()

set(TREADLE_COMPONENTS "")
set(TREADLE_REFERENCES "")
treadle_add_component(
  pybind11 "${pybind11_VERSION}" "pkg:pypi/pybind11@${pybind11_VERSION}" BSD-3-Clause)
if(TREADLE_STATIC_CXX)
  include(CheckCXXSourceCompiles)
  check_cxx_source_compiles("
    #include <cstddef>
    #ifndef _LIBCPP_VERSION
    #error \"this is not libc++\"
    #endif
    int main() {}" TREADLE_LIBCXX)
  # A compiler and its C++ library are one release.
  set(version "${CMAKE_CXX_COMPILER_VERSION}")
  if(TREADLE_LIBCXX)
    treadle_add_component(
      libc++ "${version}" "pkg:generic/libc%2B%2B@${version}" "Apache-2.0 WITH LLVM-exception")
  else()
    treadle_add_component(libstdc++ "${version}" "pkg:generic/libstdc%2B%2B@${version}"
      "GPL-3.0-or-later WITH GCC-exception-3.1")
  endif()
endif()

set(TREADLE_REFERENCE "pkg:pypi/treadle@${SKBUILD_PROJECT_VERSION_FULL}")
configure_file(
  ${PROJECT_SOURCE_DIR}/cmake/sbom.json.in ${PROJECT_BINARY_DIR}/treadle.cdx.json @ONLY)
install(FILES ${PROJECT_BINARY_DIR}/treadle.cdx.json DESTINATION ${SKBUILD_METADATA_DIR}/sboms)

# The next configuration of this folder may be one of pip.
unset(TREADLE_SBOM CACHE)
