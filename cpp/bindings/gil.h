// This header runs native code without the GIL, which may look for signals now and then.
#pragma once

#include <Python.h>
#include <cxxabi.h>
#include <pybind11/pybind11.h>
#include <unistd.h>

#include "engine/schedule/interrupt.h"
#include "runtime/flush_to_zero.h"

namespace treadle {

class WithoutGil {
 public:
  WithoutGil() : state_(PyEval_SaveThread()) {}
  ~WithoutGil() { take(); }
  WithoutGil(const WithoutGil&) = delete;
  WithoutGil& operator=(const WithoutGil&) = delete;

  // An Interrupt calls this. It returns true, with a Python exception set, when a signal handler
  // raised. Python runs handlers on its main thread only; on other threads this returns false.
  static bool poll(void* self) { return static_cast<WithoutGil*>(self)->poll_signals(); }

 private:
  bool poll_signals() {
    const KeepDenormals theirs;
    take();
    const bool stop = PyErr_CheckSignals() != 0;
    state_ = PyEval_SaveThread();
    return stop;
  }

  // A daemon thread that asks for the GIL while the interpreter ends is unwound by Python before
  // 3.14, through frames that cannot be unwound. It waits for the end of the process instead, as
  // 3.14 does.
  void take() {
    try {
      PyEval_RestoreThread(state_);
    } catch (abi::__forced_unwind&) {
      for (;;) pause();
    }
  }

  PyThreadState* state_;
};

// Calls native(interrupt) without the GIL. If a signal handler stopped the computation, this throws
// the handler's Python exception.
template <class Native>
void interruptible(Native&& native) {
  bool stopped;
  {
    WithoutGil without;
    Interrupt interrupt(WithoutGil::poll, &without);
    native(interrupt);
    stopped = interrupt.stopped();
  }
  if (stopped) throw pybind11::error_already_set();
}

}  // namespace treadle
