#include "engine/graph/ops/families.h"

namespace treadle::graph {

const OperatorTable& operators() {
  static const OperatorTable table = [] {
    OperatorTable all;
    list_shapes(all);
    list_movement(all);
    list_pad(all);
    list_gather(all);
    list_scatter(all);
    list_select(all);
    list_cast(all);
    list_reduce(all);
    list_scan_axis(all);
    list_quantize(all);
    list_quantized_matmul(all);
    list_quantized_conv(all);
    list_arithmetic(all);
    list_logic(all);
    list_functions(all);
    list_numeric(all);
    list_products(all);
    list_conv(all);
    list_conv_general(all);
    list_pool(all);
    list_resize(all);
    list_recurrent(all);
    list_quantized_lstm(all);
    list_norms(all);
    list_attention(all);
    list_control(all);
    return all;
  }();
  return table;
}

}  // namespace treadle::graph
