// Makes a data set of any size for tests/bench/index: sparse tars, and the kept index of each as if
// its samples had been looked through. Real pictures lie spread over every tar; the samples of a
// tar share them.
#include <unistd.h>

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "data/images/image_codec.h"
#include "data/sources/dataset.h"
#include "data/sources/source_cache.h"

namespace espalier {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kPicturesPerShard = 100;

struct Arguments {
  std::string folder, cache, pictures;
  int64_t samples = 10'000'000, shards = 10, gigabytes = 100;
};

void make_shard(const Arguments& arguments, const Dataset& pictures, int64_t shard) {
  char name[32];
  std::snprintf(name, sizeof(name), "/shard-%03lld.tar", static_cast<long long>(shard));
  const std::string path = arguments.folder + name;
  const int64_t bytes = arguments.gigabytes * 1'000'000'000 / arguments.shards;
  std::ofstream(path).close();
  fs::resize_file(path, static_cast<uintmax_t>(bytes));
  std::fstream file(path, std::ios::binary | std::ios::in | std::ios::out);
  std::vector<std::pair<int64_t, int64_t>> places;
  for (int64_t i = 0; i < kPicturesPerShard; ++i) {
    const auto picture = encode_png(pictures.get(i % pictures.size()).image);
    places.emplace_back(bytes / kPicturesPerShard * i, std::ssize(picture));
    file.seekp(places.back().first);
    file.write(reinterpret_cast<const char*>(picture.data()), std::ssize(picture));
  }
  file.close();

  std::vector<Sample> described;
  for (int64_t i = 0; i < pictures.size(); ++i) described.push_back(pictures.describe(i));
  SourceIndexWriter index;
  index.set_container(path);
  const int64_t first = arguments.samples * shard / arguments.shards;
  const int64_t end = arguments.samples * (shard + 1) / arguments.shards;
  for (int64_t i = first; i < end; ++i) {
    const auto [offset, size] = places[static_cast<size_t>(i % kPicturesPerShard)];
    const Sample& sample = described[static_cast<size_t>(i % std::ssize(described))];
    index.add({{"__key__", std::to_string(i)},
               {"caption", sample.caption()},
               {"group", sample.text("group")}},
              {"caption", "group"}, offset, size, static_cast<uint64_t>(i));
  }
  BuildOptions options;
  options.decode = false;  // as sources of this size are opened
  index.write(kept_index_path(path, options, arguments.cache), source_identity(path, options));
}

}  // namespace
}  // namespace espalier

int main(int argc, char** argv) {
  espalier::Arguments arguments;
  CLI::App app("Makes a data set of many samples");
  app.add_option("FOLDER", arguments.folder, "Where the tars come to lie")->required();
  app.add_option("--cache", arguments.cache, "Where the indices come to lie")->required();
  app.add_option("--pictures", arguments.pictures, "A shard with pictures")->required();
  app.add_option("--samples", arguments.samples, "In all")->capture_default_str();
  app.add_option("--shards", arguments.shards, "Tars")->capture_default_str();
  app.add_option("--gigabytes", arguments.gigabytes, "Logical size of all tars")
      ->capture_default_str();
  CLI11_PARSE(app, argc, argv);
  std::filesystem::create_directories(arguments.folder);
  std::filesystem::create_directories(arguments.cache);
  const espalier::Dataset pictures({arguments.pictures});
  for (int64_t shard = 0; shard < arguments.shards; ++shard) {
    espalier::make_shard(arguments, pictures, shard);
  }
  return 0;
}
