#include "trainer/update/flop_counter.h"

#include <atomic>
#include <functional>
#include <optional>
#include <string>
#include <unordered_map>

#include <ATen/record_function.h>
#include <c10/util/ThreadLocalDebugInfo.h>
#include <torch/torch.h>

namespace espalier {
namespace {

using Inputs = c10::ArrayRef<const c10::IValue>;

// Travels with the thread's state to the threads of a backward pass. Under a kind that LibTorch
// reads nothing from: it asks the one of profilers about memory.
struct Count : c10::DebugInfoBase {
  std::atomic<double> flops = 0;
};
constexpr auto kCount = c10::DebugInfoKind::TEST_INFO;

const at::Tensor& tensor(Inputs inputs, size_t i) { return inputs[i].toTensor(); }

double number_of(const at::Tensor& t) { return static_cast<double>(t.numel()); }

// (…, m, k) x (…, k, n): every element of the left meets n of the right.
double product(const at::Tensor& left, const at::Tensor& right) {
  return 2.0 * number_of(left) * static_cast<double>(right.size(-1));
}

// Every weight of a convolution is used once for each place of the grid that it slides over: the
// output's, or the input's where it is transposed.
double convolution(const at::Tensor& weight, int64_t samples, double places) {
  return 2.0 * static_cast<double>(samples) * places * number_of(weight);
}

double places_of(const at::Tensor& images) {
  return number_of(images) / static_cast<double>(images.size(0) * images.size(1));
}

// aten::convolution(input, weight, bias, stride, padding, dilation, transposed, …)
double convolution_forward(Inputs in) {
  const at::Tensor &x = tensor(in, 0), &weight = tensor(in, 1);
  if (in[6].toBool()) return convolution(weight, x.size(0), places_of(x));
  const auto stride = in[3].toIntVector(), padding = in[4].toIntVector(),
             dilation = in[5].toIntVector();
  const auto at_dimension = [](const std::vector<int64_t>& values, size_t d) {
    return values.size() == 1 ? values[0] : values.at(d);
  };
  double places = 1;
  for (int64_t d = 2; d < x.dim(); ++d) {
    const auto i = static_cast<size_t>(d - 2);
    const int64_t reach = at_dimension(dilation, i) * (weight.size(d) - 1) + 1;
    places *= static_cast<double>(
        (x.size(d) + 2 * at_dimension(padding, i) - reach) / at_dimension(stride, i) + 1);
  }
  return convolution(weight, x.size(0), places);
}

// aten::convolution_backward(grad_output, input, weight, bias_sizes, stride, padding, dilation,
// transposed, output_padding, groups, output_mask)
double convolution_backward(Inputs in) {
  const at::Tensor &grad = tensor(in, 0), &x = tensor(in, 1), &weight = tensor(in, 2);
  const auto wanted = in[10].toBoolList();
  const double products = (wanted.get(0) ? 1.0 : 0.0) + (wanted.get(1) ? 1.0 : 0.0);
  return products * convolution(weight, x.size(0), places_of(in[7].toBool() ? x : grad));
}

// Scores and their product with the values: q (B, H, L, E), k (B, H, S, E). The backward pass has
// the two products of each; what a fused kernel computes again is not counted.
double attention(const at::Tensor& q, const at::Tensor& k) {
  return 4.0 * number_of(q) * static_cast<double>(k.size(2));
}
double attention_forward(Inputs in) { return attention(tensor(in, 0), tensor(in, 1)); }
double attention_backward(Inputs in) { return 2.0 * attention(tensor(in, 1), tensor(in, 2)); }

using Rule = double (*)(Inputs);

const std::unordered_map<std::string, Rule>& rules() {
  static const std::unordered_map<std::string, Rule> rules = {
      {"aten::mm", [](Inputs in) { return product(tensor(in, 0), tensor(in, 1)); }},
      {"aten::bmm", [](Inputs in) { return product(tensor(in, 0), tensor(in, 1)); }},
      {"aten::addmm", [](Inputs in) { return product(tensor(in, 1), tensor(in, 2)); }},
      {"aten::baddbmm", [](Inputs in) { return product(tensor(in, 1), tensor(in, 2)); }},
      {"mkldnn::_linear_pointwise",
       [](Inputs in) {
         return 2.0 * number_of(tensor(in, 0)) * static_cast<double>(tensor(in, 1).size(0));
       }},
      {"aten::convolution", convolution_forward},
      {"aten::convolution_backward", convolution_backward},
      {"aten::_scaled_dot_product_flash_attention", attention_forward},
      {"aten::_scaled_dot_product_flash_attention_backward", attention_backward},
      {"aten::_scaled_dot_product_efficient_attention", attention_forward},
      {"aten::_scaled_dot_product_efficient_attention_backward", attention_backward},
      {"aten::_scaled_dot_product_flash_attention_for_cpu", attention_forward},
      {"aten::_scaled_dot_product_flash_attention_for_cpu_backward", attention_backward}};
  return rules;
}

std::unique_ptr<at::ObserverContext> note(const at::RecordFunction& function) {
  const auto rule = rules().find(function.name());
  if (rule == rules().end()) return nullptr;
  if (auto* count = static_cast<Count*>(c10::ThreadLocalDebugInfo::get(kCount))) {
    count->flops.fetch_add(rule->second(function.inputs()));
  }
  return nullptr;
}

}  // namespace

struct FlopCounter::Scope {
  std::shared_ptr<c10::DebugInfoBase> count = std::make_shared<Count>();
  c10::DebugInfoGuard guard{kCount, count};
  at::CallbackHandle handle = at::addThreadLocalCallback(
      at::RecordFunctionCallback(note).needsInputs(true).scopes({at::RecordScope::FUNCTION}));

  ~Scope() { at::removeCallback(handle); }
};

FlopCounter::FlopCounter() : scope_(std::make_unique<Scope>()) {}
FlopCounter::~FlopCounter() = default;

double FlopCounter::flops() const { return static_cast<const Count&>(*scope_->count).flops; }

}  // namespace espalier
