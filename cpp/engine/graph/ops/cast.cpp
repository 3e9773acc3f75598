// Cast and CastLike: numbers of another type.
#include "engine/graph/ops/cast_number.h"
#include "engine/graph/ops/families.h"
#include "engine/graph/strides.h"

namespace treadle::graph {
namespace {

void cast(Call& call, Type type) {
  const Tensor& x = call.input(0);
  const Shape shape = x.shape;
  if (x.type == type) return call.share(0, 0, shape);
  Tensor& y = call.output(0, type, shape);
  constexpr std::int64_t kPiece = 1 << 13;
  const std::int64_t count = x.count();
  with_type(x.type, [&](auto from_zero) {
    with_type(type, [&](auto to_zero) {
      using From = decltype(from_zero);
      using To = decltype(to_zero);
      const From* from = x.as<From>();
      To* to = y.as<To>();
      call.parallel_for((count + kPiece - 1) / kPiece, kPiece * 25, [&](std::int64_t piece) {
        for (std::int64_t i = piece * kPiece, end = std::min(count, i + kPiece); i < end; ++i) {
          to[i] = cast_number<To>(from[i]);
        }
      });
    });
  });
}

std::unique_ptr<Operator> make_cast(const NodeDescription& node) {
  const Type type = type_of_code(node.integer("to"));
  return make_operator([type](Call& call) { cast(call, type); });
}

void cast_like(Call& call) { cast(call, call.input(1).type); }

}  // namespace

void list_cast(OperatorTable& table) {
  table["Cast"] = make_cast;
  table["CastLike"] = make_plain<cast_like>;
}

}  // namespace treadle::graph
