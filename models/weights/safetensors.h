#pragma once

#include <cstddef>
#include <functional>
#include <map>
#include <span>
#include <string>

#include <ATen/core/Tensor.h>

namespace espalier {

// Hugging Face safetensors: u64 little-endian header length, a JSON header, raw row-major data.
// Nothing in such a file is executed.
using TensorMap = std::map<std::string, at::Tensor>;
using TextMap = std::map<std::string, std::string>;

// Reads every tensor into fresh CPU memory. Refuses, with a WeightsError that names the file and
// the tensor, whatever the format forbids: a length that does not match the file, holes or
// overlaps between tensors, a shape that does not fit its bytes, a name given twice.
TensorMap read_safetensors(const std::string& path);

// The `__metadata__` entry; empty when the file has none. Checks the header, reads no data.
TextMap read_safetensors_metadata(const std::string& path);

// The bytes before the data: length and JSON, padded to 8. Data follow in name order, each tensor
// contiguous, with nothing in between.
std::string safetensors_header(const TensorMap& tensors, const TextMap& metadata = {});

// Passes the whole file as consecutive pieces (header, then each tensor), so that a caller can
// digest what it writes from memory. The pieces are only valid during the call.
void visit_safetensors(const TensorMap& tensors, const TextMap& metadata,
                       const std::function<void(std::span<const std::byte>)>& visit);

// Writes in place, without temporary name or fsync: callers that need those bring their own.
void write_safetensors(const std::string& path, const TensorMap& tensors,
                       const TextMap& metadata = {});

// Copies `source` into the tensors of `target` that share a name. Throws WeightsError naming the
// first tensors that are missing, unexpected or of another shape; `what` says whose they are.
void copy_tensors(const TensorMap& source, const TensorMap& target, const std::string& what);

}  // namespace espalier
