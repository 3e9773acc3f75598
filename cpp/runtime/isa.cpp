#include "runtime/isa.h"

#include <atomic>
#include <cstdlib>
#include <cstring>
#include <iterator>
#include <stdexcept>

#include "runtime/amx.h"
#include "runtime/arm_features.h"
#include "runtime/flush_to_zero.h"
#include "runtime/x86_features.h"

namespace treadle {

namespace portable {
void fill(KernelTable&);
}
#if defined(TREADLE_HAS_avx2)
namespace avx2 {
void fill(KernelTable&);
}
#endif
#if defined(TREADLE_HAS_avx512)
namespace avx512 {
void fill(KernelTable&);
}
namespace avx512_bf16 {
void fill(KernelTable&);
}
#endif
#if defined(TREADLE_HAS_amx)
namespace amx {
void fill(KernelTable&);
}
#endif
#if defined(TREADLE_HAS_neon)
namespace neon {
void fill(KernelTable&);
}
namespace neon_dotprod {
void fill(KernelTable&);
}
namespace neon_i8mm {
void fill(KernelTable&);
}
namespace neon_bf16 {
void fill(KernelTable&);
}
#endif

namespace {

// Returns the level that TREADLE_ISA names, or null.
const char* forced_level() {
  const char* name = std::getenv("TREADLE_ISA");
  return name && *name ? name : nullptr;
}

struct Level {
  const char* name;
  void (*fill)(KernelTable&);
  bool (*supported)();
};

#if defined(TREADLE_HAS_amx)
// Nobody asks the kernel for tiles, or tries them, where TREADLE_ISA names another level.
bool has_amx() {
  const char* forced = forced_level();
  if (forced && std::strcmp(forced, "amx") != 0) return false;
  return x86::has_avx512_bf16() && may_use_tiles();
}
#endif

// The levels, the lowest first. A table is filled by every level up to the requested one, so that a
// level only overrides the kernels that it improves.
const Level kLevels[] = {
    {"portable", portable::fill, [] { return true; }},
#if defined(TREADLE_HAS_avx2)
    {"avx2", avx2::fill, x86::has_avx2},
#endif
#if defined(TREADLE_HAS_avx512)
    {"avx512", avx512::fill, x86::has_avx512},
    {"avx512_bf16", avx512_bf16::fill, x86::has_avx512_bf16},
#endif
#if defined(TREADLE_HAS_amx)
    {"amx", amx::fill, has_amx},
#endif
#if defined(TREADLE_HAS_neon)
    {"neon", neon::fill, [] { return true; }},
    {"neon_dotprod", neon_dotprod::fill, arm::has_dotprod},
    {"neon_i8mm", neon_i8mm::fill, arm::has_i8mm},
    {"neon_bf16", neon_bf16::fill, arm::has_bf16},
#endif
};

struct Tables {
  KernelTable table[std::size(kLevels)];
  int count = 0;
  Tables() {
    KernelTable t{};
    const FlushToZero guard;  // as in any call: amx tries its kernels
    for (const Level& level : kLevels) {
      if (!level.supported()) break;
      level.fill(t);
      if (std::strcmp(t.isa, level.name) != 0) break;  // it has found that it does not work here
      table[count++] = t;
    }
  }
};

const Tables& tables() {
  static const Tables all;
  return all;
}

const KernelTable& find(const std::string& isa, const std::string& who) {
  std::string known;
  for (int i = 0; i < tables().count; ++i) {
    if (tables().table[i].isa == isa) return tables().table[i];
    known += (i ? ", " : "") + std::string(tables().table[i].isa);
  }
  throw std::invalid_argument(who + " is '" + isa +
                              "', expected one this CPU and build have: " + known);
}

std::atomic<const KernelTable*> active{nullptr};

}  // namespace

std::vector<std::string> available_isas() {
  std::vector<std::string> names;
  for (int i = 0; i < tables().count; ++i) names.emplace_back(tables().table[i].isa);
  return names;
}

const KernelTable& kernels() {
  const KernelTable* table = active.load(std::memory_order_acquire);
  if (!table) {
    const char* forced = forced_level();
    table = forced ? &find(forced, "TREADLE_ISA") : &tables().table[tables().count - 1];
    active.store(table, std::memory_order_release);
  }
  return *table;
}

void set_isa(const std::string& isa) { active.store(&find(isa, "isa"), std::memory_order_release); }

}  // namespace treadle
