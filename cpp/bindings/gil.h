// This header runs native code without the GIL, which may look for signals now and then.
#pragma once

#include <Python.h>
#include <pybind11/pybind11.h>

#include <stdexcept>

#include "engine/schedule/interrupt.h"
#include "runtime/flush_to_zero.h"
#include "runtime/forced_unwind.h"
#include "runtime/reentrant_guard.h"

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
    outlive_forced_unwind([&] { PyEval_RestoreThread(state_); });
  }

  PyThreadState* state_;
};

// Calls native(interrupt) without the GIL. If a signal handler stopped the computation, this throws
// the handler's Python exception, or std::runtime_error in the child of a handler that forked.
template <class Native>
void interruptible(Native&& native) {
  bool stopped;
  {
    WithoutGil without;
    Interrupt interrupt(WithoutGil::poll, &without);
    const Listening listening(interrupt);
    try {
      native(interrupt);
    } catch (const Interrupted&) {
    }
    stopped = interrupt.stopped();
  }
  if (!stopped) return;
  if (PyErr_Occurred()) throw pybind11::error_already_set();
  throw std::runtime_error(
      "treadle: a signal handler forked in the middle of this call, which goes on in the parent");
}

// Calls native(interrupt) without the GIL while it holds the lock. Who waits for the lock listens
// to signals as a computation does.
template <class Native>
void in_turn(ReentrantGuard& guard, Native&& native) {
  interruptible([&](Interrupt& interrupt) {
    const ReentrantGuard::Hold hold(guard, interrupt.patience());
    if (hold) native(interrupt);
  });
}

}  // namespace treadle
