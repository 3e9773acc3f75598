// treadle._core checks arguments, releases the GIL and calls the engine. It has no arithmetic.
#include <pybind11/pybind11.h>

#include "runtime/isa.h"
#include "runtime/thread_pool.h"

namespace treadle {
void register_attention(pybind11::module_& m);
void register_conv1d(pybind11::module_& m);
void register_encoder(pybind11::module_& m);
void register_kv_cache(pybind11::module_& m);
void register_product(pybind11::module_& m);
void register_recurrent(pybind11::module_& m);
void register_runtime(pybind11::module_& m);
void register_transformer_block(pybind11::module_& m);
}  // namespace treadle

PYBIND11_MODULE(_core, m) {
  m.doc() = "Native core of treadle. Use the package `treadle`; this module is private.";
  treadle::kernels();     // a TREADLE_ISA that cannot run here fails the import, not the first call
  treadle::fork_count();  // registers the handler before anyone can fork
  treadle::register_runtime(m);
  treadle::register_recurrent(m);
  treadle::register_product(m);
  treadle::register_conv1d(m);
  treadle::register_attention(m);
  treadle::register_encoder(m);
  treadle::register_transformer_block(m);
  treadle::register_kv_cache(m);
}
