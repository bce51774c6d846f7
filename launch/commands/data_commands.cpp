#include <algorithm>
#include <cstdio>

#include <nlohmann/json.hpp>

#include "data/episodes/episode_index.h"
#include "data/episodes/episode_reader.h"
#include "data/episodes/inspect_episodes.h"
#include "data/images/contact_sheet.h"
#include "data/images/image_codec.h"
#include "data/inspect.h"
#include "launch/commands/commands.h"
#include "launch/protocol/failure_class.h"
#include "trainer/config/config_text.h"
#include "trainer/config/run_config.h"
#include "trainer/errors.h"
#include "trainer/named/open_dataset.h"
#include "trainer/record/json_text.h"

namespace espalier {
namespace {

constexpr int64_t kSheetColumns = 16;
constexpr int64_t kSheetSamples = 128;
constexpr size_t kKeywordsShown = 12;

struct Split {
  std::string name;
  Dataset dataset;
};

// The splits of every data set of a config as a run would read them, or data as they were given.
std::vector<Split> splits_of(const InspectArguments& arguments) {
  std::vector<Split> splits;
  if (arguments.inputs.size() != 1 || !arguments.inputs[0].ends_with(".toml")) {
    DatasetOptions options;
    options.skip_bad_samples = arguments.skip_bad_samples;
    options.required_fields = {};
    splits.push_back({"data", Dataset(arguments.inputs, options)});
    return splits;
  }
  RunConfig config = load_run_config(arguments.inputs[0]);
  for (DataConfig& data : config.data) {
    if (arguments.skip_bad_samples) data.on_bad_sample = "skip";
    data.image_size = 0;  // pictures as they are
    for (const char* split : {"train", "validation", "test"}) {
      if (data.split(split).empty()) continue;
      splits.push_back({data.name + " " + split, open_dataset(config, data.name, split)});
    }
  }
  return splits;
}

void print_lengths(const char* name, const LengthStatistics& lengths) {
  std::printf("  %-20s min %lld, mean %.1f, max %lld\n", name, static_cast<long long>(lengths.min),
              lengths.mean, static_cast<long long>(lengths.max));
}

void print_counts(const char* name, const std::map<std::string, int64_t>& counts, size_t most) {
  std::vector<std::pair<int64_t, std::string>> sorted;
  for (const auto& [key, count] : counts) sorted.emplace_back(count, key);
  std::stable_sort(sorted.begin(), sorted.end(),
                   [](const auto& a, const auto& b) { return a.first > b.first; });
  std::printf("  %-20s %zu:", name, sorted.size());
  for (size_t i = 0; i < std::min(most, sorted.size()); ++i) {
    std::printf("%s %s %lld", i == 0 ? "" : ",", sorted[i].second.c_str(),
                static_cast<long long>(sorted[i].first));
  }
  std::printf("%s\n", sorted.size() > most ? ", …" : "");
}

void print(const std::string& name, const DataStatistics& statistics) {
  std::printf("%s: %lld samples in %zu source%s, %.1f MB, fingerprint %s\n", name.c_str(),
              static_cast<long long>(statistics.samples), statistics.shards.size(),
              statistics.shards.size() == 1 ? "" : "s",
              static_cast<double>(statistics.shard_bytes) / 1e6, statistics.fingerprint.c_str());
  if (statistics.looked_at < statistics.samples) {
    std::printf("  of %lld of them, evenly spread:\n",
                static_cast<long long>(statistics.looked_at));
  }
  print_counts("image sizes", statistics.image_sizes, 5);
  print_counts("fields", statistics.fields, 20);
  print_lengths("caption characters", statistics.caption_characters);
  print_lengths("caption words", statistics.caption_words);
  std::printf("  %-20s %lld captions, %lld words\n", "distinct",
              static_cast<long long>(statistics.distinct_captions),
              static_cast<long long>(statistics.distinct_words));
  print_counts("groups", statistics.groups, statistics.groups.size());
  print_counts("keywords", statistics.keywords, kKeywordsShown);
  for (const std::string& note : statistics.notes) std::printf("  note: %s\n", note.c_str());
  if (statistics.bad_samples == 0) return;
  std::printf("  %lld bad samples are skipped:\n", static_cast<long long>(statistics.bad_samples));
  for (const auto& message : statistics.bad_messages) std::printf("    %s\n", message.c_str());
}

// Evenly spread over the data, in its order.
Image sheet_of(const Dataset& dataset) {
  const int64_t count = std::min(kSheetSamples, dataset.size());
  std::vector<std::vector<Image>> rows;
  for (int64_t i = 0; i < count; ++i) {
    if (i % kSheetColumns == 0) rows.emplace_back();
    rows.back().push_back(dataset.get(i * dataset.size() / count).image);
  }
  return contact_sheet(rows);
}

// A row of frames for each of some training episodes, from its first step to its last, in the first
// view.
Image episode_sheet(const EpisodeIndex& index) {
  const EpisodeReader reader(index, "train");
  const int64_t count = std::min(kSheetSamples / kSheetColumns, reader.size());
  const int64_t frame_bytes = index.height * index.width * 3;
  std::vector<std::vector<Image>> rows;
  for (int64_t i = 0; i < count; ++i) {
    const Episode episode = reader.read(i * reader.size() / count);
    const int64_t columns = std::min(kSheetColumns, episode.steps);
    rows.emplace_back();
    for (int64_t c = 0; c < columns; ++c) {
      const int64_t step = columns == 1 ? 0 : c * (episode.steps - 1) / (columns - 1);
      Image image = blank_image(static_cast<int>(index.width), static_cast<int>(index.height));
      std::copy_n(episode.frames[0].begin() + step * frame_bytes, frame_bytes, image.rgb.begin());
      rows.back().push_back(std::move(image));
    }
  }
  return contact_sheet(rows);
}

int inspect_episode_set(const InspectArguments& arguments) {
  const EpisodeIndex index = read_episode_index(arguments.inputs[0]);
  const EpisodeStatistics statistics = inspect_episodes(index, arguments.skip_bad_samples);
  const std::string text = arguments.as_json ? json_text(to_json(index, statistics), 2) + "\n"
                                             : describe(index, statistics);
  std::fputs(text.c_str(), stdout);
  if (!arguments.sheet.empty()) {
    write_png(arguments.sheet, episode_sheet(index));
    std::fprintf(stderr, "contact sheet of training episodes: %s\n", arguments.sheet.c_str());
  }
  return kExitDone;
}

}  // namespace

int run_data_inspect(const InspectArguments& arguments) {
  if (arguments.inputs.size() == 1 && is_episode_path(arguments.inputs[0]))
    return inspect_episode_set(arguments);
  const std::vector<Split> splits = splits_of(arguments);
  nlohmann::json all = nlohmann::json::object();
  for (const auto& split : splits) {
    const DataStatistics statistics = inspect(split.dataset);
    all[split.name] = to_json(statistics);
    if (!arguments.as_json) print(split.name, statistics);
    if (!arguments.sheet.empty() && &split == &splits.front()) {
      write_png(arguments.sheet, sheet_of(split.dataset));
    }
  }
  if (arguments.as_json) std::printf("%s\n", json_text(all, 2).c_str());
  if (!arguments.sheet.empty()) {
    std::fprintf(stderr, "contact sheet of %s: %s\n", splits.front().name.c_str(),
                 arguments.sheet.c_str());
  }
  return kExitDone;
}

int run_config_explain(const std::string& key, bool markdown, bool as_json) {
  if (as_json) {
    std::printf("%s\n", json_text(settings_json(key), 2).c_str());
    return kExitDone;
  }
  const std::string text = markdown ? config_reference() : explain_config(key);
  std::fputs(text.c_str(), stdout);
  if (!text.ends_with('\n')) std::fputc('\n', stdout);
  return kExitDone;
}

}  // namespace espalier
