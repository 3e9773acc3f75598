// The Python class KeyValueCache checks its arguments and calls the engine's cache.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <memory>
#include <new>
#include <string>
#include <utility>
#include <vector>

#include "bindings/arrays.h"
#include "bindings/construct.h"
#include "bindings/dtype.h"
#include "bindings/gil.h"
#include "bindings/heads.h"
#include "bindings/named_values.h"
#include "bindings/score_options.h"
#include "engine/attention/cache.h"
#include "runtime/isa.h"
#include "runtime/reentrant_guard.h"

namespace treadle {
namespace {

using Object = py::object;
using Lengths = std::vector<std::int64_t>;
using Storage = std::shared_ptr<KeyValueCache::Storage>;

// A cache and its lock, which a thread must hold to use the cache.
class BoundCache {
 public:
  BoundCache(const std::string& f, std::int64_t batch, std::int64_t heads, std::int64_t key_size,
             std::int64_t value_size, std::int64_t capacity, const std::string& dtype) {
    for (const auto& [name, size, most] :
         {std::tuple{"batch_size", batch, std::int64_t{INT32_MAX}},
          std::tuple{"num_heads", heads, std::int64_t{INT32_MAX}},
          std::tuple{"head_size", key_size, std::int64_t{kMostHeadSize}},
          std::tuple{"value_size", value_size, std::int64_t{kMostHeadSize}},
          std::tuple{"capacity", capacity, kMostTokens}}) {
      if (size < 1 || size > most) {
        throw py::value_error(f + ": " + name + " is " + std::to_string(size) + ", expected 1 to " +
                              std::to_string(most));
      }
    }
    checked_product(f, {batch, heads, capacity, std::max(key_size, value_size), 8});
    cache_ = std::make_unique<KeyValueCache>(
        KeyValueCache::Shape{batch, heads, key_size, value_size, parse_dtype(f, dtype)}, capacity);
  }
  BoundCache(const BoundCache& other) {
    in_turn(other.guard_, [&](Interrupt& interrupt) {
      cache_ = std::make_unique<KeyValueCache>(*other.cache_, interrupt);
    });
  }

  std::unique_ptr<BoundCache> copy() const { return std::make_unique<BoundCache>(*this); }

  Lengths lengths() const {
    Lengths now;
    in_turn(guard_, [&](Interrupt&) { now = cache_->lengths(); });
    return now;
  }
  std::int64_t capacity() const {
    std::int64_t now{};
    in_turn(guard_, [&](Interrupt&) { now = cache_->capacity(); });
    return now;
  }

  void append(const std::string& f, const Object& k, const Object& v, const Object& counts) {
    const NewTokens tokens = check_tokens(f, k, v, counts);
    in_turn(guard_, [&](Interrupt& interrupt) { put(tokens, interrupt); });
  }

  Object attend(const std::string& f, const Object& q, const Object& counts,
                const py::dict& options, const Object& out) {
    const ScoreOptions scores = check_options(f, options);
    Queries queries = check_queries(f, q, counts, scores, out);
    in_turn(guard_, [&](Interrupt& interrupt) { look(f, queries, interrupt); });
    return queries.result;
  }

  // Appends and attends; no other thread changes the cache between the two.
  Object step(const std::string& f, const Object& q, const Object& k, const Object& v,
              const Object& counts, const py::dict& options, const Object& out) {
    const NewTokens tokens = check_tokens(f, k, v, counts);
    const ScoreOptions scores = check_options(f, options);
    Queries queries = check_queries(f, q, counts, scores, out);
    if (queries.call.S != tokens.keys.shape[2]) {
      throw py::value_error(f + ": q has " + std::to_string(queries.call.S) +
                            " tokens, expected as many as k");
    }
    in_turn(guard_, [&](Interrupt& interrupt) {
      const Lengths before = cache_->lengths();
      try {
        put(tokens, interrupt);
        if (!interrupt.stopped()) look(f, queries, interrupt);
      } catch (...) {
        cache_->truncate(before.data());
        throw;
      }
      if (interrupt.stopped()) cache_->truncate(before.data());
    });
    return queries.result;
  }

  // Row b keeps its first lengths[b] tokens.
  void truncate(const std::string& f, const Object& lengths) {
    const auto list = check_array<std::int64_t>(f, "lengths", lengths,
                                                {{"B", cache_->shape().batch}}, Layout::contiguous);
    const Lengths own(list.data, list.data + list.shape[0]);
    in_turn(guard_, [&](Interrupt&) {
      for (std::size_t b = 0; b < own.size(); ++b) {
        if (const std::int64_t tokens = cache_->lengths()[b]; own[b] < 0 || own[b] > tokens) {
          throw std::invalid_argument(f + ": lengths holds " + std::to_string(own[b]) +
                                      " for row " + std::to_string(b) + ", expected 0 to its " +
                                      std::to_string(tokens) + " tokens");
        }
      }
      cache_->truncate(own.data());
    });
  }

  // The rows whose numbers are listed forget all tokens.
  void reset(const std::string& f, const Object& rows) {
    const auto list = check_array<std::int64_t>(f, "rows", rows, {{"R", kAny}}, Layout::contiguous);
    const Lengths own(list.data, list.data + list.shape[0]);
    for (const std::int64_t row : own) check_size(f, "rows", row, 0, cache_->shape().batch - 1);
    in_turn(guard_, [&](Interrupt&) {
      Lengths left = cache_->lengths();
      for (const std::int64_t row : own) left[row] = 0;
      cache_->truncate(left.data());
    });
  }

  // Says how many tokens the rows have, which the caller has written where they lie.
  void set_lengths(const std::string& f, const Object& lengths) {
    const Lengths own = check_counts(f, "lengths", lengths, capacity());
    // Another thread cannot have made the capacity less: it only grows.
    in_turn(guard_, [&](Interrupt&) { cache_->truncate(own.data()); });
  }

  void reorder(const std::string& f, const Object& rows) {
    const Lengths own = check_counts(f, "rows", rows, cache_->shape().batch - 1);
    in_turn(guard_, [&](Interrupt& interrupt) { cache_->reorder(own.data(), interrupt); });
  }

  // Returns (keys, values) as they are stored: float32, bfloat16 as uint16, or a pair of int8 and
  // scales. They are views [B, N, capacity, size], which keep the memory alive.
  py::tuple rows() const {
    const Storage storage = shared_storage();
    return py::make_tuple(stored(storage, storage->keys), stored(storage, storage->values));
  }

 private:
  // The checked keys and values of new tokens, and how many each row has of them.
  struct NewTokens {
    View<const float> keys, values;
    Lengths counts;
  };
  // The checked queries of a call; its array of results.
  struct Queries {
    AttentionCall call{};
    Lengths counts;
    Object result;
  };

  NewTokens check_tokens(const std::string& f, const Object& k, const Object& v,
                         const Object& counts) const {
    const KeyValueCache::Shape& s = cache_->shape();
    const Axis B{"B", s.batch}, N{"N", s.heads};
    const auto keys = check_array<float>(f, "k", k, {B, N, {"S", kAny}, {"E", s.key_size}},
                                         Layout::last_contiguous);
    const std::int64_t S = keys.shape[2];
    const auto values = check_array<float>(f, "v", v, {B, N, {"S", S}, {"F", s.value_size}},
                                           Layout::last_contiguous);
    return {keys, values, check_counts(f, "lengths", counts, S)};
  }

  static ScoreOptions check_options(const std::string& f, const py::dict& options) {
    NamedValues values(f, "options", options);
    ScoreOptions scores = take_score_options(values);
    values.finish();
    return scores;
  }

  // `scores` must live as long as the call.
  Queries check_queries(const std::string& f, const Object& q, const Object& counts,
                        const ScoreOptions& scores, const Object& out) const {
    const KeyValueCache::Shape& s = cache_->shape();
    const Axis B{"B", s.batch};
    const auto query = check_array<float>(
        f, "q", q, {B, {"N", kAny}, {"S", kAny}, {"E", s.key_size}}, Layout::last_contiguous);
    Queries queries;
    AttentionCall& c = queries.call;
    c.B = s.batch;
    c.N = query.shape[1];
    c.S = query.shape[2];
    c.q = head_view(query);
    if (c.N % s.heads != 0) {
      throw py::value_error(f + ": q has " + std::to_string(c.N) + " heads and the cache has " +
                            std::to_string(s.heads) + ", expected a multiple");
    }
    const Axis N{"N", c.N}, S{"S", c.S}, F{"F", s.value_size};
    queries.counts = check_counts(f, "lengths", counts, c.S);
    c.query_lengths = queries.counts.data();
    c.causal = true;
    set_scores(c, f, scores);
    // Few queries multiply in float32 whatever the dtype of the cache; many do so in bfloat16.
    c.dtype = s.dtype == Dtype::float32 ? Dtype::float32 : Dtype::bfloat16;
    checked_product(f, {c.B, c.N, c.S, s.value_size});
    queries.result = heads_output(out, c.B, c.N, c.S, s.value_size);
    const auto to = check_output(f, "out", queries.result, {B, N, S, F}, Layout::last_contiguous);
    if (c.N > 0 && c.S > 0) check_rows_apart(f, "out", to);
    c.out = head_view(to);
    return queries;
  }

  // Whoever calls these two holds the lock.
  void put(const NewTokens& tokens, Interrupt& interrupt) {
    std::int64_t most = 0;
    for (std::int64_t b = 0; b < cache_->shape().batch; ++b) {
      most = std::max(most, cache_->lengths()[b] + tokens.counts[b]);
    }
    if (most > kMostTokens) throw std::bad_alloc();
    cache_->append(head_view(tokens.keys), head_view(tokens.values), tokens.counts.data(),
                   interrupt);
  }
  void look(const std::string& f, Queries& queries, Interrupt& interrupt) const {
    AttentionCall& c = queries.call;
    const Lengths offsets = query_offsets(f, queries.counts);
    c.query_offset = offsets.data();
    if (c.N == 0 || c.S == 0) return;
    cache_->describe(c);
    treadle::attend(kernels(), c, interrupt);
  }

  // Checks a number for each sequence, 0 to `most`, and returns a copy, which no other thread can
  // change.
  Lengths check_counts(const std::string& f, const char* name, const Object& value,
                       std::int64_t most) const {
    const std::int64_t batch = cache_->shape().batch;
    const auto v = check_array<std::int64_t>(f, name, value, {{"B", batch}}, Layout::contiguous);
    Lengths own(v.data, v.data + batch);
    for (const std::int64_t n : own) {
      if (n < 0 || n > most) {
        throw py::value_error(f + ": " + name + " holds " + std::to_string(n) + ", expected 0 to " +
                              std::to_string(most));
      }
    }
    return own;
  }

  // Returns the position of each sequence's first query; the queries belong to its last tokens.
  Lengths query_offsets(const std::string& f, const Lengths& counts) const {
    Lengths offsets = cache_->lengths();
    bool fits = true;
    for (std::size_t b = 0; b < counts.size(); ++b) fits &= (offsets[b] -= counts[b]) >= 0;
    if (!fits) {
      const Lengths& tokens = cache_->lengths();
      throw std::invalid_argument(
          f + ": q has " + std::to_string(*std::max_element(counts.begin(), counts.end())) +
          " queries for rows of " +
          std::to_string(*std::min_element(tokens.begin(), tokens.end())) +
          " tokens or more, expected no more queries than tokens; append their keys first");
    }
    return offsets;
  }

  Storage shared_storage() const {
    Storage storage;
    in_turn(guard_, [&](Interrupt&) { storage = cache_->storage(); });
    return storage;
  }

  Object stored(const Storage& owner, const CachedRows& rows) const {
    const KeyValueCache::Shape& s = cache_->shape();
    const py::capsule base(new Storage(owner), [](void* p) { delete static_cast<Storage*>(p); });
    const py::ssize_t B = s.batch, N = s.heads, K = rows.capacity(), E = rows.size();
    const void* data = rows.vector(0, 0, 0);
    switch (rows.dtype()) {
      case Dtype::float32:
        return py::array(py::dtype::of<float>(), {B, N, K, E}, data, base);
      case Dtype::bfloat16:
        return py::array(py::dtype::of<std::uint16_t>(), {B, N, K, E}, data, base);
      case Dtype::int8:
        break;
    }
    return py::make_tuple(py::array(py::dtype::of<std::int8_t>(), {B, N, K, E}, data, base),
                          py::array(py::dtype::of<float>(), {B, N, K}, rows.scale(0, 0, 0), base));
  }

  std::unique_ptr<KeyValueCache> cache_;
  mutable ReentrantGuard guard_;
};

}  // namespace

[[gnu::cold]] void register_kv_cache(py::module_& m) {
  py::class_<BoundCache>(m, "KeyValueCache", py::is_final(), constructed_by_new())
      .def(py::init<const std::string&, std::int64_t, std::int64_t, std::int64_t, std::int64_t,
                    std::int64_t, const std::string&>(),
           py::arg("function"), py::kw_only(), py::arg("batch_size"), py::arg("num_heads"),
           py::arg("head_size"), py::arg("value_size"), py::arg("capacity"), py::arg("dtype"))
      .def("append", &BoundCache::append, py::arg("function"), py::arg("k"), py::arg("v"),
           py::kw_only(), py::arg("counts"))
      // Decoding passes all arguments by position, since a keyword takes 0.4 us and a step 6 us.
      .def("attend", &BoundCache::attend, py::arg("function"), py::arg("q"), py::arg("counts"),
           py::arg("options") = py::dict(), py::arg("out") = py::none())
      .def("step", &BoundCache::step, py::arg("function"), py::arg("q"), py::arg("k"), py::arg("v"),
           py::arg("counts"), py::arg("options") = py::dict(), py::arg("out") = py::none())
      .def("truncate", &BoundCache::truncate, py::arg("function"), py::arg("lengths"))
      .def("reset", &BoundCache::reset, py::arg("function"), py::arg("rows"))
      .def("set_lengths", &BoundCache::set_lengths, py::arg("function"), py::arg("lengths"))
      .def("reorder", &BoundCache::reorder, py::arg("function"), py::arg("rows"))
      .def("rows", &BoundCache::rows)
      .def("copy", &BoundCache::copy)
      .def_property_readonly("lengths", &BoundCache::lengths)
      .def_property_readonly("capacity", &BoundCache::capacity);
}

}  // namespace treadle
