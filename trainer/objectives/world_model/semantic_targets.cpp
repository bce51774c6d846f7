#include "trainer/objectives/world_model/semantic_targets.h"

#include <c10/core/StreamGuard.h>
#include <c10/core/impl/VirtualGuardImpl.h>
#include <torch/torch.h>

#include "trainer/errors.h"
#include "trainer/named/spread_indices.h"

namespace espalier {
namespace {

constexpr int64_t kMeanFrames = 128;

}  // namespace

SemanticTargets::SemanticTargets(NamedThings& things, WorldModel& model, SemanticOptions options)
    : model_(model), options_(std::move(options)) {
  const int64_t wanted = model.settings().semantic_channels;
  if (options_.teacher.empty()) {
    if (model.index().segmentation_views == model.index().views) return;
    throw ConfigError(options_.asked_by +
                      ": the episodes have no segmentation of every view for semantic queries to "
                      "dream of; name a teacher, or set the model's queries.semantic to 0");
  }
  teacher_ = &things.network(options_.teacher);
  const at::Device device = things.device();
  if (!device.is_cpu()) {
    stream_ = c10::impl::VirtualGuardImpl(device.type()).getStreamFromGlobalPool(device);
  }
  if (teacher_->channels() == wanted) return;
  throw ConfigError(options_.asked_by + ".teacher = \"" + options_.teacher + "\" has " +
                    std::to_string(teacher_->channels()) +
                    " channels, the model's semantic_channels are " + std::to_string(wanted));
}

at::Tensor SemanticTargets::of_step(const at::Tensor& frames) const {
  // Not behind what training has queued: who loads is ahead of it, and waits for these.
  c10::OptionalStreamGuard own_stream;
  if (stream_) own_stream.reset_stream(*stream_);
  const int64_t size = model_.settings().semantic_side * teacher_->stride();
  return teacher_->features(at::upsample_bilinear2d(frames.to(at::kFloat), {size, size}, false))
      .to(at::kCPU, at::kBFloat16);
}

// (N, S, S) uint8 -> (N, side^2, C): the share of a cell that each object takes.
at::Tensor SemanticTargets::of_segmentation(const at::Tensor& segmentation) const {
  const int64_t channels = model_.settings().semantic_channels;
  const int64_t side = model_.settings().semantic_side;
  const int64_t largest = segmentation.max().item<int64_t>();
  if (largest >= channels) {
    throw ConfigError("the segmentation has an object of number " + std::to_string(largest) +
                      ", but the model's semantic_channels are " + std::to_string(channels) +
                      "; set it to more");
  }
  const at::Tensor planes = at::one_hot(segmentation.to(at::kLong), channels).to(at::kFloat);
  return at::adaptive_avg_pool2d(planes.permute({0, 3, 1, 2}), {side, side})
      .flatten(2)
      .transpose(1, 2);
}

at::Tensor SemanticTargets::raw(const WindowBatch& batch, bool keep) {
  const torch::NoGradGuard no_gradient;
  // Targets are the same whoever asks for them in whatever precision.
  const c10::impl::ExcludeDispatchKeyGuard no_autocast(c10::autocast_dispatch_keyset);
  if (teacher_ == nullptr) return of_segmentation(batch.segmentation.flatten(0, 1));
  std::vector<at::Tensor> all;
  for (int64_t i = 0; i < batch.steps(); ++i) {
    const auto step = static_cast<size_t>(batch.future_steps[static_cast<size_t>(i)]);
    if (keep && step < kept_.size() && kept_[step].defined()) {
      all.push_back(kept_[step]);
      continue;
    }
    all.push_back(of_step(batch.future[i]));
    const auto bytes = static_cast<int64_t>(all.back().nbytes());
    if (!keep || kept_bytes_ + bytes > options_.memory_mib * (1 << 20)) continue;
    if (step >= kept_.size()) kept_.resize(step + 1);
    kept_[step] = all.back();
    kept_bytes_ += bytes;
  }
  return at::cat(all).to(at::kFloat);
}

at::Tensor SemanticTargets::make(const WindowBatch& batch, const at::Tensor& mean, bool keep) {
  return raw(batch, keep) - mean;
}

at::Tensor SemanticTargets::measure_mean(const EpisodeSet& train) {
  std::vector<EpisodeWindow> windows;
  for (const int64_t episode : spread_indices(kMeanFrames, train.size())) {
    windows.push_back({episode, train.steps(episode) - 1});
  }
  return raw(read_windows(train, model_, windows, 0), /*keep=*/false).mean(at::IntArrayRef{0, 1});
}

}  // namespace espalier
