#include "trainer/named/teacher_features.h"

#include <spdlog/spdlog.h>
#include <torch/torch.h>

#include <cmath>
#include <filesystem>

#include "models/errors.h"
#include "models/teachers/teacher.h"
#include "models/weights/safetensors.h"
#include "trainer/checkpoint/durable_file.h"
#include "trainer/host/collective_text.h"

namespace espalier {
namespace {

constexpr int64_t kImagesAtOnce = 16;

// Read on rank 0 only: other ranks may not share its disk.
at::Tensor read_cache(const std::string& path, const TextMap& key, at::IntArrayRef shape) {
  if (path.empty() || !std::filesystem::exists(path)) return {};
  try {
    if (read_safetensors_metadata(path) != key) {
      spdlog::info("teacher: {} is of other images or weights, made anew", path);
      return {};
    }
    const TensorMap tensors = read_safetensors(path);
    const auto found = tensors.find("features");
    if (found != tensors.end() && found->second.sizes() == shape &&
        found->second.scalar_type() == at::kBFloat16) {
      spdlog::info("teacher: features from {}", path);
      return found->second;
    }
    spdlog::warn("teacher: {} does not hold what it says, made anew", path);
  } catch (const WeightsError& error) {
    spdlog::warn("teacher: {}; made anew", error.what());
  }
  return {};
}

void write_cache(const std::string& path, const TextMap& key, const at::Tensor& features) {
  if (path.empty()) return;
  try {
    std::filesystem::create_directories(std::filesystem::path(path).parent_path());
    replace_file(path, [&](const std::string& temporary) {
      write_safetensors(temporary, {{"features", features}}, key);
    });
  } catch (const std::exception& error) {
    spdlog::warn("teacher: features are not kept for the next run: {}", error.what());
  }
}

at::Tensor view_features(const Teacher& network, const at::Tensor& images, int64_t size) {
  const at::Tensor resized =
      at::upsample_bilinear2d(images.to(at::kFloat), {size, size}, /*align_corners=*/false);
  return network.features(resized).to(at::kBFloat16);
}

// This rank's part, (rows, views, T * T, C).
void compute(const Teacher& network, const at::Tensor& images, int64_t image_size, at::Tensor& out,
             int64_t total, const WorkListener& on_work) {
  const int64_t rows = images.size(0);
  for (int64_t begin = 0; begin < rows; begin += kImagesAtOnce) {
    const int64_t count = std::min(kImagesAtOnce, rows - begin);
    const at::Tensor chunk = images.narrow(0, begin, count);
    at::Tensor target = out.narrow(0, begin, count);
    target.select(1, 0).copy_(view_features(network, chunk, image_size));
    if (out.size(1) > 1)
      target.select(1, 1).copy_(view_features(network, chunk.flip({3}), image_size));
    if (on_work) on_work({"teacher features", (begin + count) * total / rows, total});
  }
}

// Every rank computes a part, and gathers as many rows as the others; the last ones may stay empty.
at::Tensor compute_on_all(Communicator& comm, const Teacher& network, const at::Tensor& images,
                          const std::vector<int64_t>& shape, const WorkListener& on_work) {
  const int64_t total = images.size(0);
  const int64_t per_rank = (total + comm.size() - 1) / comm.size();
  const int64_t begin = std::min(total, per_rank * comm.rank());
  const int64_t count = std::min(per_rank, total - begin);
  const auto side = static_cast<int64_t>(std::lround(std::sqrt(static_cast<double>(shape[2]))));
  std::vector<int64_t> part_shape = shape;
  part_shape[0] = per_rank;
  at::Tensor part = at::zeros(part_shape, at::kBFloat16);
  compute(network, images.narrow(0, begin, count), side * network.stride(), part, total, on_work);
  part_shape.insert(part_shape.begin(), comm.size());
  const at::Device wire = communication_device(comm);
  const at::Tensor gathered = at::empty(part_shape, at::dtype(at::kBFloat16).device(wire));
  comm.all_gather(part.to(wire), gathered)->wait();
  return gathered.flatten(0, 1).narrow(0, 0, total).to(at::kCPU).contiguous();
}

}  // namespace

at::Tensor teacher_view(const Teacher& network, const at::Tensor& levels, int64_t side) {
  return view_features(network, levels, side * network.stride());
}

at::Tensor teacher_features(Communicator& comm, const Teacher& network,
                            const TeacherRequest& request, const WorkListener& on_work) {
  const torch::NoGradGuard no_gradient;
  const at::Tensor& images = request.levels;
  const int64_t image_size = request.side * network.stride();
  const std::vector<int64_t> shape{images.size(0), request.mirrored ? 2 : 1,
                                   request.side * request.side, network.channels()};
  const bool is_first = comm.rank() == 0;
  TextMap key;
  at::Tensor features;
  if (is_first) {
    key = {
        {"images", request.fingerprint},
        {"weights", digest_file(request.weights_path).xxh3_128},
        {"teacher_image_size", std::to_string(image_size)},
        {"source_image_size", std::to_string(images.size(3))},
        {"network", std::string(network.name()) + " stride " + std::to_string(network.stride())}};
    features = read_cache(request.cache_path, key, shape);
  }
  const at::Device wire = communication_device(comm);
  const at::Tensor found = at::full({1}, features.defined() ? 1 : 0, at::kLong).to(wire);
  comm.broadcast(found, 0)->wait();
  if (found.item<int64_t>() == 1) {
    const at::Tensor shared =
        is_first ? features.to(wire) : at::empty(shape, at::dtype(at::kBFloat16).device(wire));
    comm.broadcast(shared, 0)->wait();
    return shared.to(at::kCPU);
  }
  if (is_first) spdlog::info("teacher: computing features of {} images", images.size(0));
  features = compute_on_all(comm, network, images, shape, on_work);
  if (is_first && request.keep) write_cache(request.cache_path, key, features);
  return features;
}

void centre_features(at::Tensor& features, const at::Tensor& mean) {
  // One image at a time: the whole set in fp32 may not fit.
  for (int64_t i = 0; i < features.size(0); ++i) {
    at::Tensor image = features[i];
    image.copy_(image.to(at::kFloat) - mean);
  }
}

at::Tensor centre_features(at::Tensor& features) {
  const int64_t images = features.size(0), positions = features.size(2);
  at::Tensor sum = at::zeros({features.size(3)}, at::kDouble);
  for (int64_t i = 0; i < images; ++i) sum.add_(features[i][0].to(at::kDouble).sum(0));
  const at::Tensor mean = sum.div_(static_cast<double>(images * positions)).to(at::kFloat);
  centre_features(features, mean);
  return mean;
}

}  // namespace espalier
