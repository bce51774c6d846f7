#include "trainer/host/collective_text.h"

#include <algorithm>
#include <cstring>
#include <filesystem>

#include <torch/torch.h>

#include "trainer/errors.h"

namespace espalier {
namespace {

at::Tensor bytes_of(const std::string& text, int64_t size) {
  at::Tensor bytes = torch::zeros({size}, at::kByte);
  std::memcpy(bytes.data_ptr<uint8_t>(), text.data(), text.size());
  return bytes;
}

std::string text_of(const at::Tensor& bytes, int64_t size) {
  const at::Tensor host = bytes.to(at::kCPU).contiguous();
  return {reinterpret_cast<const char*>(host.data_ptr<uint8_t>()), static_cast<size_t>(size)};
}

}  // namespace

at::Device communication_device(const Communicator& comm) {
  return comm.backend() == "nccl" ? at::Device(at::kCUDA) : at::Device(at::kCPU);
}

std::string broadcast_text(Communicator& comm, const std::string& text, int root) {
  const at::Device device = communication_device(comm);
  at::Tensor size = torch::tensor({static_cast<int64_t>(text.size())}, at::kLong).to(device);
  comm.broadcast(size, root)->wait();
  const int64_t count = size.item<int64_t>();
  if (count == 0) return "";
  at::Tensor bytes = comm.rank() == root ? bytes_of(text, count) : torch::zeros({count}, at::kByte);
  bytes = bytes.to(device);
  comm.broadcast(bytes, root)->wait();
  return text_of(bytes, count);
}

std::vector<std::string> gather_text(Communicator& comm, const std::string& text) {
  const at::Device device = communication_device(comm);
  const auto longs = at::TensorOptions(at::kLong).device(device);
  const at::Tensor size = torch::full({1}, static_cast<int64_t>(text.size()), longs);
  at::Tensor sizes = torch::zeros({comm.size(), 1}, longs);
  comm.all_gather(size, sizes)->wait();
  sizes = sizes.to(at::kCPU).flatten();
  const int64_t longest = std::max<int64_t>(1, sizes.max().item<int64_t>());
  const at::Tensor mine = bytes_of(text, longest).to(device);
  const at::Tensor all = torch::zeros({comm.size(), longest}, mine.options());
  comm.all_gather(mine, all)->wait();
  std::vector<std::string> texts;
  for (int r = 0; r < comm.size(); ++r) texts.push_back(text_of(all[r], sizes[r].item<int64_t>()));
  return texts;
}

std::string on_rank_0(Communicator& comm, const std::function<std::string()>& work) {
  // First byte: c = config error, d = do not requeue, s = storage, o = result.
  std::string outcome;
  if (comm.rank() == 0) {
    try {
      outcome = "o" + work();
    } catch (const ConfigError& error) {
      outcome = std::string("c") + error.what();
    } catch (const DoNotRequeueError& error) {
      outcome = std::string("d") + error.what();
    } catch (const StorageError& error) {
      outcome = std::string("s") + error.what();
    } catch (const std::filesystem::filesystem_error& error) {
      outcome = std::string("s") + error.what();
    }
  }
  outcome = broadcast_text(comm, outcome);
  const std::string text = outcome.substr(1);
  if (outcome.front() == 'c') throw ConfigError(text);
  if (outcome.front() == 'd') throw DoNotRequeueError(text);
  if (outcome.front() == 's') throw StorageError(text);
  return text;
}

}  // namespace espalier
