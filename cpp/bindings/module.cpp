// weft._core: checks arguments, releases the GIL, calls the engine, returns. No arithmetic.
#include <pybind11/pybind11.h>

#include "runtime/isa.h"
#include "runtime/thread_pool.h"

namespace weft {
void register_attention(pybind11::module_& m);
void register_product(pybind11::module_& m);
void register_recurrent(pybind11::module_& m);
void register_runtime(pybind11::module_& m);
}  // namespace weft

PYBIND11_MODULE(_core, m) {
  m.doc() = "Native core of weft. Use the package `weft`; this module is private.";
  weft::kernels();     // a WEFT_ISA that cannot run here fails the import, not the first call
  weft::fork_count();  // registers the handler before anyone can fork
  weft::register_runtime(m);
  weft::register_recurrent(m);
  weft::register_product(m);
  weft::register_attention(m);
}
