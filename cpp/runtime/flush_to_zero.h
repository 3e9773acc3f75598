// Denormals are flushed to zero while a guard lives: gates that decay make an LSTM twenty times
// slower otherwise (oneDNN issue 561). The caller's control word comes back on exit.
#pragma once

#include <cstdint>

#if defined(__x86_64__)
#include <xmmintrin.h>
#endif

namespace treadle {

#if defined(__x86_64__)
// Intel SDM volume 1, 10.2.3: bit 15 flushes results, bit 6 reads denormal operands as zero.
constexpr std::uint64_t kFlushBits = 0x8040;
inline std::uint64_t control_word() { return _mm_getcsr(); }
inline void set_control_word(std::uint64_t word) { _mm_setcsr(static_cast<unsigned>(word)); }
#elif defined(__aarch64__)
// Arm ARM, FPCR.FZ: bit 24, for operands and results.
constexpr std::uint64_t kFlushBits = 1u << 24;
inline std::uint64_t control_word() {
  std::uint64_t word;
  asm volatile("mrs %0, fpcr" : "=r"(word));
  return word;
}
inline void set_control_word(std::uint64_t word) { asm volatile("msr fpcr, %0" : : "r"(word)); }
#else
#error "treadle: unknown architecture; add its floating-point control word here"
#endif

// Sets the calling thread's control word, and sets it back.
class ControlWord {
 public:
  explicit ControlWord(std::uint64_t wanted) : saved_(control_word()), changed_(saved_ != wanted) {
    if (changed_) set_control_word(wanted);
  }
  ~ControlWord() {
    if (changed_) set_control_word(saved_);
  }
  ControlWord(const ControlWord&) = delete;
  ControlWord& operator=(const ControlWord&) = delete;

 private:
  const std::uint64_t saved_;
  const bool changed_;
};

class FlushToZero : ControlWord {
 public:
  FlushToZero() : ControlWord(control_word() | kFlushBits) {}
};

// Lets foreign code that runs inside a call, such as a Python signal handler, keep its denormals.
class KeepDenormals : ControlWord {
 public:
  KeepDenormals() : ControlWord(control_word() & ~kFlushBits) {}
};

}  // namespace treadle
