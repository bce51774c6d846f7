#include "trainer/update/agreement.h"

#include <torch/torch.h>

#include "trainer/host/collective_text.h"

namespace espalier {
namespace {

// The one place that knows the order on the wire: used to write and to read.
template <class A, class Visit>
void visit_fields(A& agreement, const Visit& visit) {
  for (auto& value : agreement.targets) visit(value);
  for (auto& value : agreement.loss_sums) visit(value);
  for (auto& value : agreement.positions) visit(value);
  visit(agreement.flops);
  visit(agreement.wants_to_stop);
  visit(agreement.cut_off);
  visit(agreement.writing_checkpoint);
}

}  // namespace

Agreement agree(Communicator& comm, const Agreement& mine) {
  std::vector<double> values;
  visit_fields(mine, [&](double value) { values.push_back(value); });
  at::Tensor vector = torch::tensor(values, at::kDouble).to(communication_device(comm));
  comm.all_reduce(vector)->wait();
  vector = vector.to(at::kCPU);
  const double* sum = vector.const_data_ptr<double>();
  Agreement all(mine.targets.size(), mine.positions.size());
  visit_fields(all, [&](double& value) { value = *sum++; });
  return all;
}

std::vector<double> loss_numbers(const std::vector<at::Tensor>& sums, size_t losses) {
  std::vector<double> numbers(losses, 0.0);
  for (size_t i = 0; i < sums.size(); ++i) {
    if (sums[i].defined()) numbers[i] = sums[i].to(at::kDouble).item<double>();
  }
  return numbers;
}

}  // namespace espalier
