#include "trainer/teacher_features.h"

#include <spdlog/spdlog.h>
#include <torch/torch.h>

#include <filesystem>

#include "models/errors.h"
#include "models/teachers/efficientnet_lite.h"
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
    // A killed run must not leave half a file under the final name.
    const std::string unfinished = path + ".unfinished";
    write_safetensors(unfinished, {{"features", features}}, key);
    std::filesystem::rename(unfinished, path);
  } catch (const std::exception& error) {
    spdlog::warn("teacher: features are not kept for the next run: {}", error.what());
  }
}

at::Tensor view_features(const EfficientNetLite0& network, const at::Tensor& images, int64_t size) {
  const at::Tensor resized =
      at::upsample_bilinear2d(images.to(at::kFloat), {size, size}, /*align_corners=*/false);
  return network.features(resized).to(at::kBFloat16);
}

// This rank's part, (rows, views, T * T, C).
void compute(const EfficientNetLite0& network, const at::Tensor& images, int64_t image_size,
             at::Tensor& out, int64_t total, const WorkListener& on_work) {
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

}  // namespace

at::Tensor teacher_features(Communicator& comm, const TeacherConfig& teacher,
                            const at::Tensor& images, const std::string& fingerprint, bool mirrored,
                            const std::string& cache_path, const WorkListener& on_work) {
  const torch::NoGradGuard no_gradient;
  if (!std::filesystem::exists(teacher.weights)) {
    throw WeightsError(
        teacher.weights +
        ": the teacher's weights are missing. launch/install/prepare_teacher.py makes them; "
        "set teacher.weights to the file it writes.");
  }
  const int64_t images_count = images.size(0);
  const int64_t side = teacher.image_size / EfficientNetLite0::kStride;
  const std::vector<int64_t> shape{images_count, mirrored ? 2 : 1, side * side,
                                   EfficientNetLite0::kChannels};
  const bool is_first = comm.rank() == 0;
  TextMap key;
  at::Tensor features;
  if (is_first) {
    key = {{"images", fingerprint},
           {"weights", digest_file(teacher.weights).xxh3_128},
           {"teacher_image_size", std::to_string(teacher.image_size)},
           {"source_image_size", std::to_string(images.size(3))},
           {"network", "efficientnet-lite0 stride 32"}};
    features = read_cache(cache_path, key, shape);
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

  const EfficientNetLite0 network(read_safetensors(teacher.weights), teacher.weights);
  if (is_first) spdlog::info("teacher: computing features of {} images", images_count);
  // Every rank gathers equally many rows; the last ones may stay empty.
  const int64_t per_rank = (images_count + comm.size() - 1) / comm.size();
  const int64_t begin = std::min(images_count, per_rank * comm.rank());
  const int64_t count = std::min(per_rank, images_count - begin);
  std::vector<int64_t> part_shape = shape;
  part_shape[0] = per_rank;
  at::Tensor part = at::zeros(part_shape, at::kBFloat16);
  compute(network, images.narrow(0, begin, count), teacher.image_size, part, images_count, on_work);
  std::vector<int64_t> gathered_shape = part_shape;
  gathered_shape.insert(gathered_shape.begin(), comm.size());
  const at::Tensor gathered = at::empty(gathered_shape, at::dtype(at::kBFloat16).device(wire));
  comm.all_gather(part.to(wire), gathered)->wait();
  features = gathered.flatten(0, 1).narrow(0, 0, images_count).to(at::kCPU).contiguous();
  if (is_first) write_cache(cache_path, key, features);
  return features;
}

std::string teacher_cache_path(const RunConfig& config, const std::string& split) {
  const std::string folder =
      config.teacher.cache.empty() ? config.directory + "/cache" : config.teacher.cache;
  return folder + "/teacher-" + split + ".safetensors";
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
