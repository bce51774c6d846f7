#pragma once

#include <map>
#include <memory>
#include <string>
#include <tuple>
#include <vector>

#include "comm/communicator.h"
#include "models/teachers/teacher.h"
#include "trainer/config/run_config.h"
#include "trainer/models/model.h"
#include "trainer/named/episode_set.h"
#include "trainer/named/image_codes.h"
#include "trainer/named/image_set.h"
#include "trainer/named/image_split.h"
#include "trainer/named/text_vocabulary.h"
#include "trainer/run_observer.h"

namespace espalier {

// A teacher's features of one split. Those of the training split are centred by their own mean.
struct TeacherFeatures {
  at::Tensor features;  // (N, views, side * side, C) bf16; view 1 is mirrored
  at::Tensor mean;      // (C), of the training split only
};

// Everything a config gives a name to, built when it is first asked for and then kept: so a stage
// pays for what it uses, and a resumed run does not rebuild what only finished stages needed. Every
// rank asks for the same things in the same order: some take a collective to build.
class NamedThings {
 public:
  // `for_training` false: text tokenizers are read from the run directory where they are kept.
  NamedThings(const RunConfig& config, Communicator& comm, at::Device device,
              bool for_training = true, WorkListener on_work = {});
  ~NamedThings();

  const RunConfig& config() const { return config_; }
  Communicator& comm() const { return comm_; }
  at::Device device() const { return device_; }
  bool is_for_training() const { return for_training_; }
  const WorkListener& on_work() const { return on_work_; }

  // With random weights, equal on all ranks, until a checkpoint or a stage changes them.
  Model& model(const std::string& name);
  // The same, as the class of its kind; ConfigError when it is of another.
  template <class T>
  T& model_as(const std::string& name, const std::string& asked_by) {
    auto* model = dynamic_cast<T*>(&this->model(name));
    if (model == nullptr) refuse_kind(name, asked_by);
    return *model;
  }
  // Its weights changed: every model hears of it, and codes made with it are dropped.
  void model_changed(const std::string& name);

  // Samples of a split for statistics, evaluations and baselines: all of them where they fit into
  // data.NAME.memory_mib, else as many as do, evenly spread.
  const ImageSet& images(const std::string& data, const std::string& split);
  // The same split to go through, whatever its size.
  const ImageSplit& image_split(const std::string& data, const std::string& split);
  // Every data set and episode set of the config, whatever stage needs it: what is missing or
  // cannot be read is told before the first stage trains. What is opened stays open.
  void open_data();
  const TextVocabulary& text(const std::string& name);
  // ConfigError with the command that makes it when there is no such data set; DataError when it is
  // not as it should be.
  const EpisodeIndex& episode_index(const std::string& name);
  const EpisodeSet& episodes(const std::string& name, const std::string& split);
  // The frozen network itself, where the run computes.
  const Teacher& network(const std::string& name);
  // `side` is that of the square map of features that is wanted.
  const TeacherFeatures& teacher(const std::string& name, const std::string& data,
                                 const std::string& split, int64_t side, bool mirrored);
  // Of all samples of a split, by the image tokenizer `model`.
  const ImageCodes& image_codes(const std::string& model, const std::string& data,
                                const std::string& split, int64_t views);

  // For a trial: from now on a split is so many of its samples, evenly spread; 0 = all again.
  void limit_samples(int64_t at_most);
  // Drops images, episodes, features and codes: a stage has ended, and the next may need others.
  void drop_data();

 private:
  using Key = std::tuple<std::string, std::string, std::string, int64_t>;

  const Dataset& dataset(const std::string& data, const std::string& split);
  int64_t samples_in_memory(const DataConfig& config, const Dataset& all) const;
  TextVocabulary load_or_learn(const TextConfig& config);
  TextVocabulary learn_text(const TextConfig& config);
  TextVocabulary text_to_train_with(const TextConfig& config);  // collective
  [[noreturn]] void refuse_kind(const std::string& name, const std::string& asked_by) const;

  const RunConfig& config_;
  Communicator& comm_;
  at::Device device_;
  bool for_training_;
  WorkListener on_work_;
  std::map<std::string, std::unique_ptr<Model>> models_;
  std::map<std::string, std::unique_ptr<Teacher>> teachers_;
  std::map<std::string, TextVocabulary> texts_;
  std::map<std::pair<std::string, std::string>, Dataset> datasets_;
  std::map<std::pair<std::string, std::string>, ImageSet> images_;
  std::map<std::pair<std::string, std::string>, ImageSplit> image_splits_;
  std::map<std::string, EpisodeIndex> indices_;
  std::map<std::pair<std::string, std::string>, EpisodeSet> episodes_;
  std::map<Key, TeacherFeatures> features_;
  std::map<Key, ImageCodes> codes_;
  int64_t at_most_ = 0;  // samples of a split, for a trial; 0 = all
};

}  // namespace espalier
