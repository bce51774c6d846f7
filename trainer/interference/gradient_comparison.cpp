#include "trainer/interference/gradient_comparison.h"

#include <algorithm>
#include <cmath>

#include <torch/torch.h>

namespace espalier {
namespace {

constexpr int64_t kColumnsAtOnce = int64_t{1} << 20;  // so that fp64 copies stay small

// Products of every row with every row, over the columns of one parameter.
at::Tensor products_of(const at::Tensor& rows, const SharedParameter& parameter) {
  at::Tensor products = at::zeros({rows.size(0), rows.size(0)}, rows.options().dtype(at::kDouble));
  for (int64_t done = 0; done < parameter.numbers; done += kColumnsAtOnce) {
    const int64_t count = std::min(kColumnsAtOnce, parameter.numbers - done);
    const at::Tensor part = rows.narrow(1, parameter.offset + done, count).to(at::kDouble);
    products += at::mm(part, part.t());
  }
  return products;
}

// What the numbers of one place are made from.
struct PlaceProducts {
  ParameterPlace place;
  int64_t parameters = 0;
  bool has_matrix = false;
  at::Tensor products;  // (rows, rows) fp64 on the CPU
};

void add_to(std::vector<PlaceProducts>& all, const ParameterPlace& place,
            const SharedParameter& parameter, const at::Tensor& products) {
  auto found = std::find_if(all.begin(), all.end(),
                            [&](const PlaceProducts& each) { return each.place == place; });
  if (found == all.end()) {
    all.push_back({place, 0, false, at::zeros_like(products)});
    found = std::prev(all.end());
  }
  found->parameters += parameter.numbers;
  found->has_matrix = found->has_matrix || parameter.is_matrix;
  found->products += products;
}

// Cosines from products of rows, where a "row" may be the sum of several.
class Cosines {
 public:
  explicit Cosines(const at::Tensor& products) : products_(products.accessor<double, 2>()) {}

  double between(const std::vector<int64_t>& a, const std::vector<int64_t>& b) const {
    const double scale = norm(a) * norm(b);
    return scale > 0 ? product(a, b) / scale : kUnknown;
  }
  double norm(const std::vector<int64_t>& rows) const {
    return std::sqrt(std::max(0.0, product(rows, rows)));
  }

 private:
  double product(const std::vector<int64_t>& a, const std::vector<int64_t>& b) const {
    double sum = 0;
    for (const int64_t i : a) {
      for (const int64_t j : b) sum += products_[i][j];
    }
    return sum;
  }

  at::TensorAccessor<double, 2> products_;
};

double mean_between_halves(const Cosines& cosines, int64_t a, int64_t b) {
  double sum = 0;
  for (const int64_t i : {2 * a, 2 * a + 1}) {
    for (const int64_t j : {2 * b, 2 * b + 1}) sum += cosines.between({i}, {j});
  }
  return sum / 4;
}

PlaceMeasure measure_of(const PlaceProducts& from, const std::vector<std::array<int64_t, 2>>& turns,
                        int64_t steps) {
  PlaceMeasure measure;
  measure.place = from.place;
  measure.parameters = from.parameters;
  measure.is_projection = from.has_matrix && !from.place.projection.empty();
  const Cosines cosines(from.products);
  const auto both = [](int64_t o) { return std::vector<int64_t>{2 * o, 2 * o + 1}; };
  const auto has_turns = [&](size_t o) { return turns[o][0] + turns[o][1] > 0; };
  const auto has_halves = [&](size_t o) { return turns[o][0] > 0 && turns[o][1] > 0; };
  for (size_t o = 0; o < turns.size(); ++o) {
    const auto row = static_cast<int64_t>(o);
    measure.norms.push_back(has_turns(o) ? cosines.norm(both(row)) / static_cast<double>(steps)
                                         : kUnknown);
    measure.split_half.push_back(has_halves(o) ? cosines.between({2 * row}, {2 * row + 1})
                                               : kUnknown);
  }
  for (const auto& [a, b] : InterferenceRecord::pairs_of(turns.size())) {
    const auto i = static_cast<int64_t>(a), j = static_cast<int64_t>(b);
    measure.cosines.push_back(cosines.between(both(i), both(j)));
    measure.half_cosines.push_back(
        has_halves(a) && has_halves(b) ? mean_between_halves(cosines, i, j) : kUnknown);
  }
  return measure;
}

}  // namespace

std::vector<PlaceMeasure> compare_gradients(const at::Tensor& rows,
                                            const std::vector<SharedParameter>& parameters,
                                            const std::vector<std::array<int64_t, 2>>& turns,
                                            int64_t steps) {
  const torch::NoGradGuard no_grad;
  std::vector<at::Tensor> parts;
  for (const SharedParameter& parameter : parameters) parts.push_back(products_of(rows, parameter));
  const at::Tensor all = at::stack(parts).to(at::kCPU);  // one wait for a GPU
  std::vector<PlaceProducts> projections, layers, everywhere;
  for (size_t i = 0; i < parameters.size(); ++i) {
    const ParameterPlace place = place_of(parameters[i].name);
    const at::Tensor products = all[static_cast<int64_t>(i)];
    add_to(projections, place, parameters[i], products);
    if (place.layer >= 0) {
      add_to(layers, {place.stack, place.layer, ""}, parameters[i], products);
    }
    add_to(everywhere, {kEverywhere, -1, ""}, parameters[i], products);
  }
  std::vector<PlaceMeasure> measures;
  for (const auto* list : {&projections, &layers, &everywhere}) {
    for (const PlaceProducts& place : *list) measures.push_back(measure_of(place, turns, steps));
  }
  return measures;
}

}  // namespace espalier
