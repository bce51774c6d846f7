#include "trainer/named/named_things.h"

#include <algorithm>
#include <filesystem>
#include <utility>

#include <spdlog/spdlog.h>
#include <torch/torch.h>

#include "models/errors.h"
#include "trainer/errors.h"
#include "trainer/host/collective_text.h"
#include "trainer/models/residual_image_tokenizer.h"
#include "trainer/named/kept_text.h"
#include "trainer/named/open_dataset.h"
#include "trainer/named/teacher_features.h"
#include "trainer/record/run_directory.h"
#include "trainer/registry.h"

namespace espalier {

NamedThings::NamedThings(const RunConfig& config, Communicator& comm, at::Device device,
                         bool for_training, WorkListener on_work)
    : config_(config),
      comm_(comm),
      device_(device),
      for_training_(for_training),
      on_work_(std::move(on_work)) {}

NamedThings::~NamedThings() = default;

Model& NamedThings::model(const std::string& name) {
  const auto found = models_.find(name);
  if (found != models_.end()) return *found->second;
  const ModelConfig& config = config_.model_named(name, "a model");
  std::unique_ptr<Model> made = registry().model(config.kind, "model." + name).make(config, *this);
  return *models_.emplace(name, std::move(made)).first->second;
}

void NamedThings::refuse_kind(const std::string& name, const std::string& asked_by) const {
  throw ConfigError(asked_by + " = \"" + name + "\": that model is of kind " +
                    config_.model_named(name, asked_by).kind + ", which does not fit here");
}

void NamedThings::model_changed(const std::string& name) {
  std::erase_if(codes_, [&](const auto& item) { return std::get<0>(item.first) == name; });
  for (auto& [other, model] : models_) model->state_changed();
}

const Dataset& NamedThings::dataset(const std::string& data, const std::string& split) {
  const auto found = datasets_.find({data, split});
  if (found != datasets_.end()) return found->second;
  return datasets_.emplace(std::pair(data, split), open_dataset(config_, data, split, on_work_))
      .first->second;
}

// Samples of a data set whose pictures fit into the memory that its config gives them.
int64_t NamedThings::samples_in_memory(const DataConfig& config, const Dataset& all) const {
  const auto of_one = static_cast<double>(3 * config.image_size * config.image_size);
  const auto given = static_cast<double>(config.memory_mib << 20);
  const int64_t fit =
      std::max<int64_t>(1, static_cast<int64_t>(given / (of_one * all.pictures_per_sample())));
  return at_most_ > 0 ? std::min(at_most_, fit) : fit;
}

void NamedThings::open_data() {
  for (const DataConfig& data : config_.data) {
    for (const char* split : {"train", "validation", "test"}) {
      if (!data.split(split).empty()) dataset(data.name, split);
    }
  }
  for (const EpisodesConfig& episodes : config_.episodes) episode_index(episodes.name);
}

const ImageSet& NamedThings::images(const std::string& data, const std::string& split) {
  const auto found = images_.find({data, split});
  if (found != images_.end()) return found->second;
  const Dataset& all = dataset(data, split);
  const DataConfig& config = config_.data_named(data, "a data set");
  return images_
      .emplace(std::pair(data, split),
               read_image_set(all, config.image_size, samples_in_memory(config, all)))
      .first->second;
}

const ImageSplit& NamedThings::image_split(const std::string& data, const std::string& split) {
  const auto found = image_splits_.find({data, split});
  if (found != image_splits_.end()) return found->second;
  const Dataset& all = dataset(data, split);
  const DataConfig& config = config_.data_named(data, "a data set");
  const bool fits = at_most_ > 0 || all.size() <= samples_in_memory(config, all);
  return image_splits_
      .emplace(std::pair(data, split), fits ? ImageSplit(&images(data, split), nullptr, config)
                                            : ImageSplit(nullptr, &all, config))
      .first->second;
}

const EpisodeIndex& NamedThings::episode_index(const std::string& name) {
  const auto found = indices_.find(name);
  if (found != indices_.end()) return found->second;
  return indices_.emplace(name, open_episode_index(config_.episodes_named(name, "episodes")))
      .first->second;
}

const EpisodeSet& NamedThings::episodes(const std::string& name, const std::string& split) {
  const auto found = episodes_.find({name, split});
  if (found != episodes_.end()) return found->second;
  const EpisodesConfig& config = config_.episodes_named(name, "episodes");
  return episodes_
      .emplace(std::pair(name, split), EpisodeSet(episode_index(name), split, config.tasks))
      .first->second;
}

TextVocabulary NamedThings::learn_text(const TextConfig& config) {
  return learn_vocabulary(config, image_split(config.data, "train"));
}

TextVocabulary NamedThings::text_to_train_with(const TextConfig& config) {
  // What a fork's models came with goes before all else.
  const std::string path = on_rank_0(comm_, [&] {
    const std::string inherited =
        kept_text_path(RunDirectory::inherited(config_.directory), config.name);
    if (!inherited.empty() || config.file.empty()) return inherited;
    return brought_text_path(config_, config);
  });
  if (path.empty()) return learn_text(config);
  TextVocabulary vocabulary = read_vocabulary(comm_, path, config);
  if (comm_.rank() == 0 && !config.file.empty()) {
    spdlog::info("text.{}: {} with the structure of sequences has {} tokens", config.name, path,
                 vocabulary.tokenizer().vocabulary_size());
  }
  return vocabulary;
}

TextVocabulary NamedThings::load_or_learn(const TextConfig& config) {
  if (!for_training_) {
    const std::string kept = kept_text_path(config_.directory, config.name);
    if (!kept.empty()) return read_vocabulary(kept, config);
    if (config.file.empty()) return learn_text(config);
    return read_vocabulary(brought_text_path(config_, config), config);
  }
  TextVocabulary vocabulary = text_to_train_with(config);
  on_rank_0(comm_, [&] {
    keep_text(config_, config.name, vocabulary);
    return std::string();
  });
  return vocabulary;
}

const TextVocabulary& NamedThings::text(const std::string& name) {
  const auto found = texts_.find(name);
  if (found != texts_.end()) return found->second;
  return texts_.emplace(name, load_or_learn(config_.text_named(name, "a text tokenizer")))
      .first->second;
}

const Teacher& NamedThings::network(const std::string& name) {
  const auto found = teachers_.find(name);
  if (found != teachers_.end()) return *found->second;
  const TeacherConfig& config = config_.teacher_named(name, "a teacher");
  const std::string where = "teacher." + name;
  if (!std::filesystem::exists(config.weights)) {
    throw WeightsError(where + ".weights = \"" + config.weights +
                       "\": the teacher's weights are missing. "
                       "launch/install/prepare_teacher.py makes them; set " +
                       where + ".weights to the file it writes.");
  }
  std::unique_ptr<Teacher> made = registry().teacher(config.kind, where).make(config.weights);
  made->to(device_);
  return *teachers_.emplace(name, std::move(made)).first->second;
}

const TeacherFeatures& NamedThings::teacher(const std::string& name, const std::string& data,
                                            const std::string& split, int64_t side, bool mirrored) {
  const Key key{name, data, split, side * 2 + (mirrored ? 1 : 0)};
  const auto found = features_.find(key);
  if (found != features_.end()) return found->second;
  const TeacherConfig& config = config_.teacher_named(name, "a teacher");
  const Teacher& teacher_network = network(name);
  const ImageSet& set = images(data, split);
  const std::string folder = config.cache.empty() ? config_.directory + "/cache" : config.cache;
  const TeacherRequest request{
      .levels = set.levels,
      .fingerprint = set.fingerprint,
      .weights_path = config.weights,
      .side = side,
      .mirrored = mirrored,
      .cache_path = folder + "/" + name + "-" + data + "-" + split + "-" + std::to_string(side) +
                    (mirrored ? "-mirrored" : "") + ".safetensors",
      .keep = for_training_};  // an evaluation may be of other shards than the run's own
  TeacherFeatures result;
  result.features = teacher_features(comm_, teacher_network, request, on_work_);
  if (split == "train") result.mean = centre_features(result.features);
  return features_.emplace(key, std::move(result)).first->second;
}

const ImageCodes& NamedThings::image_codes(const std::string& name, const std::string& data,
                                           const std::string& split, int64_t views) {
  const Key key{name, data, split, views};
  const auto found = codes_.find(key);
  if (found != codes_.end()) return found->second;
  auto& tokenizer = model_as<ResidualImageTokenizer>(name, "an image tokenizer");
  return codes_
      .emplace(key, encode_image_set(tokenizer.module(), images(data, split).all_levels(), comm_,
                                     device_, views, on_work_))
      .first->second;
}

void NamedThings::limit_samples(int64_t at_most) {
  at_most_ = at_most;
  drop_data();
}

void NamedThings::drop_data() {
  image_splits_.clear();
  images_.clear();
  episodes_.clear();
  features_.clear();
  codes_.clear();
}

}  // namespace espalier
