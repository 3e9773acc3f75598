// treadle._core checks arguments, releases the GIL and calls the engine. It has no arithmetic.
#include <pybind11/pybind11.h>

#include "runtime/fork.h"
#include "runtime/isa.h"
#include "runtime/reentrant_guard.h"
#include "runtime/thread_pool.h"

namespace treadle {
// An import calls each of these once. Their definitions, and those of other headers, are marked as
// cold, so that the compiler makes them small.
void register_attention(pybind11::module_& m);
void register_decoder(pybind11::module_& m);
void register_decoder_state(pybind11::module_& m);
void register_encoder(pybind11::module_& m);
void register_kv_cache(pybind11::module_& m);
void register_product(pybind11::module_& m);
void register_recurrent(pybind11::module_& m);
void register_runtime(pybind11::module_& m);
void register_spatial(pybind11::module_& m);
void register_tensor(pybind11::module_& m);
void register_tensor_places(pybind11::module_& m);
void register_conv(pybind11::module_& m);
void register_program(pybind11::module_& m);
void register_plain_inputs(pybind11::module_& m);
void register_transformer_block(pybind11::module_& m);
}  // namespace treadle

namespace {

bool interpreter_ends() {
#if PY_VERSION_HEX >= 0x030D0000
  return Py_IsFinalizing() != 0;
#else
  return _Py_IsFinalizing() != 0;
#endif
}

// The names of pybind11's types, like much of NumPy, exist once in a process.
bool in_subinterpreter() { return PyInterpreterState_Get() != PyInterpreterState_Main(); }

constexpr char kSubinterpreter[] =
    "treadle: a subinterpreter cannot import treadle (nor safely NumPy, on which it is built); use "
    "threads of the main interpreter, or processes";

}  // namespace

// Without a GIL any number of threads run the bindings at once: docs/internals/threads.md says what
// guards each object.
PYBIND11_MODULE(_core_of_main, m, pybind11::mod_gil_not_used()) {
  // Python 3.12 and later call PyInit__core in the main interpreter, and this where it is imported.
  if (in_subinterpreter()) throw pybind11::import_error(kSubinterpreter);
  m.doc() = "Native core of treadle. Use the package `treadle`; this module is private.";
  // A variable of the environment that cannot be fulfilled fails the import, not the first call.
  treadle::kernels();
  treadle::num_threads();
  treadle::fork_count();  // registers the handler before anyone can fork
  treadle::ReentrantGuard::ask_whether_others_are_stopped(interpreter_ends);
  treadle::register_runtime(m);
  treadle::register_recurrent(m);
  treadle::register_product(m);
  treadle::register_spatial(m);
  treadle::register_attention(m);
  treadle::register_encoder(m);
  treadle::register_transformer_block(m);
  treadle::register_decoder_state(m);  // a decoder makes states
  treadle::register_decoder(m);
  treadle::register_kv_cache(m);
  treadle::register_tensor(m);
  treadle::register_tensor_places(m);
  treadle::register_conv(m);
  treadle::register_plain_inputs(m);
  treadle::register_program(m);  // takes layers that were registered above
}

// Python 3.11 and earlier would wait for ever in the first line of pybind11.
extern "C" PYBIND11_EXPORT PyObject* PyInit__core() {
  if (!in_subinterpreter()) return PyInit__core_of_main();
  PyErr_SetString(PyExc_ImportError, kSubinterpreter);
  return nullptr;
}
