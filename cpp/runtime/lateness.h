// Lateness remembers that workers lost their CPUs to others, so that the process does without them
// for a while: for 5 ms at first, and up to 0.2 s where that happens again and again.
#pragma once

namespace treadle {

// A thread waited for a worker that had no CPU.
void note_late_worker();
// Tells whether workers are left alone at present.
bool workers_rest();

// Waits for some ten nanoseconds within a loop that spins.
inline void pause_cpu() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

}  // namespace treadle
