#pragma once

#include <cstdint>
#include <fstream>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

#include "models/weights/safetensors_layout.h"

namespace espalier {

// The weights of a Hugging Face folder: model.safetensors, or the shards that
// model.safetensors.index.json lists. Opening reads headers only; a tensor's data go straight to
// where they are wanted, whatever the size of the file.
class WeightFolder {
 public:
  // WeightsError: no weights there, a shard that the index names is missing, a tensor that is not
  // in the shard that should hold it, or a file that is no safetensors.
  explicit WeightFolder(const std::string& folder);
  ~WeightFolder();

  std::vector<std::string> names() const;
  bool has(const std::string& name) const { return places_.contains(name); }
  const std::vector<int64_t>& shape(const std::string& name) const;  // WeightsError when not there
  // Copies a tensor into `place`, in the type and on the device of `place`: through a buffer of 16
  // MiB where these differ from the file's. WeightsError when the shapes differ.
  void read_into(const std::string& name, const at::Tensor& place);
  // The file that has, or should have, a tensor: for errors.
  std::string file_of(const std::string& name) const;

 private:
  struct Shard;
  struct Place {
    Shard* shard = nullptr;
    SafetensorsEntry entry;
  };

  void open_shard(const std::string& file);
  void read_index(const std::string& path);
  const Place& place_of(const std::string& name) const;

  std::string folder_;
  std::map<std::string, std::unique_ptr<Shard>> shards_;  // by file name
  std::map<std::string, Place> places_;                   // by tensor
};

}  // namespace espalier
