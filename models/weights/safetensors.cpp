#include "models/weights/safetensors.h"

#include <ATen/ops/empty.h>

#include <fstream>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "models/errors.h"
#include "models/weights/safetensors_layout.h"

namespace espalier {
namespace {

[[noreturn]] void fail(const std::string& path, const std::string& problem) {
  throw WeightsError(path + ": " + problem);
}

}  // namespace

TensorMap read_safetensors(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  const SafetensorsLayout header = read_safetensors_layout(path, file);
  TensorMap tensors;
  for (const SafetensorsEntry& entry : header.entries) {
    at::Tensor tensor = at::empty(entry.shape, at::TensorOptions().dtype(entry.type));
    file.seekg(static_cast<std::streamoff>(header.data_start + entry.begin));
    file.read(static_cast<char*>(tensor.data_ptr()),
              static_cast<std::streamsize>(entry.end - entry.begin));
    if (!file) fail(path, "cannot read the data of tensor \"" + entry.name + "\"");
    tensors.emplace(entry.name, std::move(tensor));
  }
  return tensors;
}

TextMap read_safetensors_metadata(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return read_safetensors_layout(path, file).metadata;
}

std::string safetensors_header(const TensorMap& tensors, const TextMap& metadata) {
  nlohmann::ordered_json json = nlohmann::ordered_json::object();
  if (!metadata.empty()) json["__metadata__"] = metadata;
  uint64_t position = 0;
  for (const auto& [name, tensor] : tensors) {
    const uint64_t end = position + tensor.nbytes();
    json[name] = {{"dtype", safetensors_dtype(tensor.scalar_type())},
                  {"shape", tensor.sizes().vec()},
                  {"data_offsets", {position, end}}};
    position = end;
  }
  std::string text = json.dump();
  text.resize((text.size() + 7) / 8 * 8, ' ');
  std::string bytes(kSafetensorsLengthBytes, '\0');
  for (size_t i = 0; i < kSafetensorsLengthBytes; ++i) {
    bytes[i] = static_cast<char>(static_cast<uint64_t>(text.size()) >> (8 * i) & 0xff);
  }
  return bytes + text;
}

void visit_safetensors(const TensorMap& tensors, const TextMap& metadata,
                       const std::function<void(std::span<const std::byte>)>& visit) {
  const std::string header = safetensors_header(tensors, metadata);
  visit(std::as_bytes(std::span(header)));
  for (const auto& [name, tensor] : tensors) {
    const at::Tensor contiguous = tensor.detach().cpu().contiguous();
    visit({static_cast<const std::byte*>(contiguous.const_data_ptr()), contiguous.nbytes()});
  }
}

void write_safetensors(const std::string& path, const TensorMap& tensors, const TextMap& metadata) {
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  if (!file) fail(path, "cannot be opened for writing");
  visit_safetensors(tensors, metadata, [&](std::span<const std::byte> bytes) {
    file.write(reinterpret_cast<const char*>(bytes.data()),
               static_cast<std::streamsize>(bytes.size()));
  });
  file.close();
  if (!file) fail(path, "cannot be written (is the disk full?)");
}

void copy_tensors(const TensorMap& source, const TensorMap& target, const std::string& what) {
  constexpr int kNamed = 3;
  std::string problems;
  int count = 0;
  const auto report = [&](const std::string& problem) {
    if (++count <= kNamed) problems += (count > 1 ? "; " : "") + problem;
  };
  for (const auto& [name, tensor] : target) {
    const auto found = source.find(name);
    if (found == source.end()) {
      report("\"" + name + "\" is missing");
    } else if (found->second.sizes() != tensor.sizes()) {
      report("\"" + name + "\" is " + shape_text(found->second.sizes().vec()) + ", the model has " +
             shape_text(tensor.sizes().vec()));
    }
  }
  for (const auto& [name, tensor] : source) {
    if (!target.contains(name)) report("\"" + name + "\" is not in the model");
  }
  if (count > 0) {
    throw WeightsError(what + " does not fit this model: " + problems +
                       (count > kNamed ? "; and " + std::to_string(count - kNamed) + " more" : "") +
                       ". Use the weights and the configuration of one run together.");
  }
  for (const auto& [name, tensor] : target) tensor.detach().copy_(source.at(name));
}

}  // namespace espalier
