#include "models/hugging_face/weight_folder.h"

#include <algorithm>
#include <filesystem>

#include <torch/torch.h>
#include <nlohmann/json.hpp>

#include "models/errors.h"

namespace espalier {
namespace {

namespace fs = std::filesystem;

constexpr const char* kSingleFile = "model.safetensors";
constexpr const char* kIndexFile = "model.safetensors.index.json";
constexpr int64_t kBufferBytes = int64_t{16} << 20;

}  // namespace

struct WeightFolder::Shard {
  std::string path;
  std::ifstream file;
  uint64_t data_start = 0;
};

WeightFolder::WeightFolder(const std::string& folder) : folder_(folder) {
  const std::string index = folder + "/" + kIndexFile;
  if (fs::exists(index)) {
    read_index(index);
  } else if (fs::exists(folder + "/" + kSingleFile)) {
    open_shard(kSingleFile);
  } else {
    throw WeightsError(folder + ": has no weights: neither " + kSingleFile + " nor " + kIndexFile +
                       " is there" +
                       (fs::exists(folder + "/pytorch_model.bin")
                            ? "; pytorch_model.bin is a pickle, which is not read: save the model "
                              "again with safe_serialization=True"
                            : ""));
  }
}

WeightFolder::~WeightFolder() = default;

void WeightFolder::open_shard(const std::string& file) {
  auto shard = std::make_unique<Shard>();
  shard->path = folder_ + "/" + file;
  shard->file.open(shard->path, std::ios::binary);
  SafetensorsLayout layout = read_safetensors_layout(shard->path, shard->file);
  shard->data_start = layout.data_start;
  for (SafetensorsEntry& entry : layout.entries) {
    const std::string name = entry.name;
    const auto [at, is_new] = places_.try_emplace(name, Place{shard.get(), std::move(entry)});
    if (!is_new) {
      throw WeightsError(shard->path + ": tensor \"" + name + "\" is also in " +
                         at->second.shard->path);
    }
  }
  shards_[file] = std::move(shard);
}

void WeightFolder::read_index(const std::string& path) {
  std::map<std::string, std::string> files;
  try {
    std::ifstream in(path);
    files = nlohmann::json::parse(in).at("weight_map").get<std::map<std::string, std::string>>();
  } catch (const nlohmann::json::exception& error) {
    throw WeightsError(path + ": expected {\"weight_map\": {TENSOR: FILE, …}} (" + error.what() +
                       ")");
  }
  for (const auto& [tensor, file] : files) {
    if (shards_.contains(file)) continue;
    if (file.find('/') != std::string::npos) {
      throw WeightsError(path + ": \"" + tensor + "\" is in \"" + file +
                         "\", which is not a file of this folder");
    }
    if (!fs::exists(folder_ + "/" + file)) {
      throw WeightsError(folder_ + "/" + file + ": is missing, and " + kIndexFile +
                         " says that \"" + tensor + "\" is in it; fetch the folder again");
    }
    open_shard(file);
  }
  for (const auto& [tensor, file] : files) {
    const auto found = places_.find(tensor);
    if (found == places_.end() || found->second.shard != shards_.at(file).get()) {
      throw WeightsError(folder_ + "/" + file + ": has no tensor \"" + tensor + "\", which " +
                         kIndexFile + " says is in it");
    }
  }
}

std::vector<std::string> WeightFolder::names() const {
  std::vector<std::string> names;
  for (const auto& [name, place] : places_) names.push_back(name);
  return names;
}

const WeightFolder::Place& WeightFolder::place_of(const std::string& name) const {
  const auto found = places_.find(name);
  if (found != places_.end()) return found->second;
  throw WeightsError(file_of(name) + ": has no tensor \"" + name + "\"");
}

const std::vector<int64_t>& WeightFolder::shape(const std::string& name) const {
  return place_of(name).entry.shape;
}

std::string WeightFolder::file_of(const std::string& name) const {
  const auto found = places_.find(name);
  if (found != places_.end()) return found->second.shard->path;
  return folder_ + "/" + (shards_.contains(kSingleFile) ? kSingleFile : kIndexFile);
}

void WeightFolder::read_into(const std::string& name, const at::Tensor& place) {
  const Place& from = place_of(name);
  const SafetensorsEntry& entry = from.entry;
  if (place.sizes() != at::IntArrayRef(entry.shape)) {
    throw WeightsError(from.shard->path + ": tensor \"" + name + "\" is " +
                       shape_text(entry.shape) + ", the model's configuration asks for " +
                       shape_text(place.sizes().vec()));
  }
  std::ifstream& file = from.shard->file;
  file.clear();
  file.seekg(static_cast<std::streamoff>(from.shard->data_start + entry.begin));
  const torch::NoGradGuard no_grad;
  const bool is_direct =
      place.is_cpu() && place.scalar_type() == entry.type && place.is_contiguous();
  const auto width = static_cast<int64_t>(c10::elementSize(entry.type));
  const int64_t chunk = is_direct ? place.numel() : std::max<int64_t>(1, kBufferBytes / width);
  at::Tensor buffer, flat = place.detach();
  TORCH_CHECK(place.is_contiguous(), "read_into wants a contiguous place for \"", name, "\"");
  flat = flat.view({-1});
  for (int64_t done = 0; done < place.numel(); done += chunk) {
    const int64_t count = std::min(chunk, place.numel() - done);
    const at::Tensor target = flat.narrow(0, done, count);
    if (!is_direct && !buffer.defined())
      buffer = at::empty({std::min(chunk, place.numel())}, entry.type);
    const at::Tensor read = is_direct ? target : buffer.narrow(0, 0, count);
    file.read(static_cast<char*>(read.data_ptr()), count * width);
    if (!file) {
      throw WeightsError(from.shard->path + ": cannot read the data of tensor \"" + name + "\"");
    }
    if (!is_direct) target.copy_(read);
  }
}

}  // namespace espalier
