#include "trainer/checkpoint/checkpoint_broadcast.h"

#include <algorithm>
#include <cstring>
#include <string>
#include <vector>

#include <torch/torch.h>

#include "trainer/host/collective_text.h"
#include "trainer/record/json_text.h"

namespace espalier {
namespace {

using nlohmann::json;

// The bytes of all tensors as one long row, of which a buffer gets one piece after the other.
class ByteRow {
 public:
  explicit ByteRow(const TensorMap& tensors) {
    for (const auto& [name, tensor] : tensors) {
      parts_.push_back({static_cast<uint8_t*>(tensor.data_ptr()), tensor.nbytes()});
      bytes_ += static_cast<int64_t>(tensor.nbytes());
    }
  }
  int64_t bytes() const { return bytes_; }

  // Visits what the next `count` bytes are made of, with the place of each in the buffer.
  template <class Visit>
  void take(int64_t count, Visit visit) {
    int64_t done = 0;
    while (done < count) {
      const Part& part = parts_[part_];
      const auto size =
          std::min(static_cast<int64_t>(part.bytes) - offset_, static_cast<int64_t>(count - done));
      if (size > 0) visit(part.data + offset_, done, static_cast<size_t>(size));
      done += size;
      offset_ += size;
      if (offset_ < static_cast<int64_t>(part.bytes)) continue;
      ++part_;
      offset_ = 0;
    }
  }

 private:
  struct Part {
    uint8_t* data;
    size_t bytes;
  };
  std::vector<Part> parts_;
  int64_t bytes_ = 0;
  size_t part_ = 0;
  int64_t offset_ = 0;
};

// What there is to come: everything but the numbers.
json describe(const LoadedCheckpoint& loaded) {
  json tensors = json::array();
  for (const auto& [name, tensor] : loaded.tensors) {
    tensors.push_back({name, static_cast<int>(tensor.scalar_type()), tensor.sizes().vec()});
  }
  return {{"path", loaded.path},
          {"step", loaded.step},
          {"state", loaded.state},
          {"tensors", std::move(tensors)}};
}

LoadedCheckpoint make_room(const json& description) {
  LoadedCheckpoint loaded{
      description.at("path"), description.at("step"), description.at("state"), {}};
  for (const json& tensor : description.at("tensors")) {
    const auto type = static_cast<at::ScalarType>(tensor.at(1).get<int>());
    loaded.tensors[tensor.at(0).get<std::string>()] =
        at::empty(tensor.at(2).get<std::vector<int64_t>>(), type);
  }
  return loaded;
}

}  // namespace

void broadcast_checkpoint(Communicator& comm, LoadedCheckpoint& loaded, int64_t piece_bytes) {
  if (comm.size() == 1) return;
  const bool is_first = comm.rank() == 0;
  const std::string text = broadcast_text(comm, is_first ? json_text(describe(loaded)) : "");
  if (!is_first) loaded = make_room(json::parse(text));
  ByteRow row(loaded.tensors);
  const at::Device device = communication_device(comm);
  const at::Tensor host = at::empty({std::min(piece_bytes, row.bytes())}, at::kByte);
  const at::Tensor wire = device.is_cpu() ? host : at::empty_like(host, at::device(device));
  auto* const buffer = host.data_ptr<uint8_t>();
  for (int64_t done = 0; done < row.bytes();) {
    const int64_t count = std::min(piece_bytes, row.bytes() - done);
    if (is_first) {
      row.take(count, [&](const uint8_t* from, int64_t at, size_t size) {
        std::memcpy(buffer + at, from, size);
      });
      if (!device.is_cpu()) wire.copy_(host);
    }
    comm.broadcast(wire.narrow(0, 0, count), 0)->wait();
    if (!is_first) {
      if (!device.is_cpu()) host.copy_(wire);
      row.take(count,
               [&](uint8_t* to, int64_t at, size_t size) { std::memcpy(to, buffer + at, size); });
    }
    done += count;
  }
}

}  // namespace espalier
