#include "trainer/named/named_things.h"

#include <algorithm>
#include <filesystem>
#include <utility>

#include <torch/torch.h>

#include "models/errors.h"
#include "trainer/checkpoint/checkpoint_files.h"
#include "trainer/checkpoint/durable_file.h"
#include "trainer/errors.h"
#include "trainer/host/collective_text.h"
#include "trainer/models/residual_image_tokenizer.h"
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

namespace {

// Samples of a data set whose pictures fit into the memory that its config gives them.
int64_t samples_in_memory(const DataConfig& config) {
  const int64_t of_one = 3 * config.image_size * config.image_size;
  return std::max<int64_t>(1, (config.memory_mib << 20) / of_one);
}

}  // namespace

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
               read_image_set(all, config.image_size, samples_in_memory(config)))
      .first->second;
}

const ImageSplit& NamedThings::image_split(const std::string& data, const std::string& split) {
  const auto found = image_splits_.find({data, split});
  if (found != image_splits_.end()) return found->second;
  const Dataset& all = dataset(data, split);
  const DataConfig& config = config_.data_named(data, "a data set");
  const bool fits = all.size() <= samples_in_memory(config);
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

// On rank 0. A run that goes on must not give its token ids another meaning.
std::string NamedThings::keep_text(const std::string& path, const TextVocabulary& learned) const {
  if (!std::filesystem::is_directory(config_.directory)) return "";
  const bool goes_on = std::filesystem::exists(path) &&
                       !list_checkpoints(RunDirectory::checkpoints(config_.directory)).empty();
  const std::string before = goes_on ? read_text_file(path) : "";
  const std::string text = learned.tokenizer().to_text();
  if (goes_on && text != before) {
    throw ConfigError(path + " was learned from other texts or with other settings than now, and " +
                      "the run's weights go with it; set them back, or choose another " +
                      "run.directory");
  }
  if (!goes_on) replace_durably(path, text);
  return "";
}

TextVocabulary NamedThings::load_or_learn(const TextConfig& config) {
  const std::string path = config_.directory + "/text-" + config.name + ".json";
  if (!for_training_ && std::filesystem::exists(path)) {
    return TextVocabulary(BytePairTokenizer::load(path));
  }
  TextVocabulary learned = learn_vocabulary(config, images(config.data, "train"));
  if (for_training_) on_rank_0(comm_, [&] { return keep_text(path, learned); });
  return learned;
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
      .emplace(key, encode_image_set(tokenizer.module(), images(data, split), comm_, device_, views,
                                     on_work_))
      .first->second;
}

void NamedThings::drop_data() {
  image_splits_.clear();
  images_.clear();
  episodes_.clear();
  features_.clear();
  codes_.clear();
}

}  // namespace espalier
