#include "trainer/evaluation/shares.h"

#include <algorithm>

#include <torch/torch.h>

#include "trainer/host/collective_text.h"

namespace espalier {
namespace {

constexpr int64_t kRowsAtOnce = 32;

}  // namespace

at::Tensor gather_rows(Communicator& comm, int64_t n, std::vector<int64_t> row_shape,
                       const std::function<at::Tensor(const at::Tensor& indices)>& make,
                       std::string_view what, const WorkListener& on_work) {
  std::vector<int64_t> sizes = {n};
  sizes.insert(sizes.end(), row_shape.begin(), row_shape.end());
  const at::Tensor all =
      torch::zeros(sizes, torch::TensorOptions(communication_device(comm)).dtype(at::kFloat));
  const at::Tensor mine = torch::arange(comm.rank(), n, comm.size(), at::kLong);
  for (int64_t first = 0; first < mine.size(0); first += kRowsAtOnce) {
    const at::Tensor indices = mine.narrow(0, first, std::min(kRowsAtOnce, mine.size(0) - first));
    all.index_copy_(0, indices.to(all.device()), make(indices).to(all.options()));
    if (on_work) on_work({what, std::min(n, (first + indices.size(0)) * comm.size()), n});
  }
  comm.all_reduce(all)->wait();
  return all.to(at::kCPU);
}

std::vector<double> to_numbers(const at::Tensor& tensor) {
  const at::Tensor values = tensor.to(at::kCPU, at::kDouble).contiguous();
  return {values.const_data_ptr<double>(), values.const_data_ptr<double>() + values.numel()};
}

}  // namespace espalier
