// What somebody does who has pictures and docs/own-data.md: its configs, word for word, on data in
// every form it names.
#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>

#include <nlohmann/json.hpp>

#include "data/images/image_codec.h"
#include "data/images/webp_codec.h"
#include "data/shards/tar_writer.h"
#include "data/sources/dataset.h"
#include "data/test_files.h"
#include "fault/program.h"
#include "journeys/pages.h"
#include "trainer/record/metrics.h"

namespace espalier {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

std::vector<std::string> blocks(const std::string& language) {
  return blocks_of_page("docs/own-data.md", language);
}

class OwnData : public testing::Test {
 protected:
  static const Dataset& emoji() {
    static const Dataset all({source_path("data/emoji/emoji-32-*.tar")});
    return all;
  }
  static Sample emoji(int i) { return emoji().get(i % emoji().size()); }

  std::string file(const std::string& name) const {
    fs::create_directories(fs::path(folder_.file(name)).parent_path());
    return folder_.file(name);
  }
  void write(const std::string& name, const std::string& text) const {
    std::ofstream(file(name), std::ios::binary) << text;
  }

  // The page's config with `data` in place of its [data.mine], and `more` at the end.
  void write_config(const std::string& data, const std::string& more = "") const {
    std::string config = blocks("toml").front();
    const size_t begin = config.find("[data.mine]"), end = config.find("[text.words]");
    write("mine.toml", config.substr(0, begin) + data + "\n" + config.substr(end) + more);
  }

  // `input`: a file that is its standard input.
  std::string espalier(std::vector<std::string> arguments, int expected = 0,
                       const std::string& input = "/dev/null") {
    const std::string output = folder_.file("output-" + std::to_string(count_++));
    std::string command = "cd " + folder_.file("") + " && XDG_CACHE_HOME=" + folder_.file("cache") +
                          " " + ESPALIER_PROGRAM;
    for (const std::string& argument : arguments) command += " '" + argument + "'";
    command += " < " + input;
    Program program({"/bin/sh", "-c", command}, output);
    EXPECT_EQ(program.wait(300), expected) << command << "\n" << program.output();
    return program.output();
  }

  // Small and short, so that a test takes seconds: 40 steps of each stage.
  std::vector<std::string> with_sizes(std::vector<std::string> arguments, bool has_both = true) {
    std::vector<std::string> sets = {
        "compute.threads_per_rank=1",       "model.tokenizer.width=16",
        "model.tokenizer.codebook_size=32", "stage.codes.steps=40",
        "stage.codes.batch_size=8",         "stage.codes.micro_batch_size=8"};
    if (has_both) {
      for (const char* set :
           {"stage.both.steps=40", "stage.both.batch_size=8", "stage.both.micro_batch_size=4",
            "model.y.width=32", "model.y.heads=2", "model.y.kv_heads=1"}) {
        sets.emplace_back(set);
      }
    }
    for (const std::string& set : sets) {
      arguments.emplace_back("--set");
      arguments.push_back(set);
    }
    return arguments;
  }

  void train_and_report() {
    EXPECT_NE(espalier({"data", "inspect", "mine.toml"}).find("samples in"), std::string::npos);
    espalier(with_sizes({"train", "mine.toml", "--dry-run"}));
    espalier(with_sizes({"train", "mine.toml"}));
    EXPECT_NE(read_file(file("runs/mine/report.html")).find("both"), std::string::npos);
    EXPECT_NE(read_file(file("runs/mine/run.json")).find("\"finished\""), std::string::npos);
    espalier({"checkpoint", "export", "runs/mine", "--to", "exported"});
    EXPECT_TRUE(fs::exists(file("exported/model.safetensors")));
    EXPECT_TRUE(fs::exists(file("exported/config.json")));
  }

  TemporaryFolder folder_;
  int count_ = 0;
};

TEST_F(OwnData, AFolderOf2000PicturesWithTextsBesideThem) {
  for (int i = 0; i < 2000; ++i) {
    const std::string name = (i < 1900 ? "mine/train/" : "mine/test/") + std::to_string(i);
    const Sample sample = emoji(i);
    write_png(file(name + ".png"), sample.image);
    write(name + ".txt", sample.caption() + "\n");
  }
  write("mine.toml", blocks("toml").front());
  train_and_report();
  EXPECT_NE(espalier({"caption", "mine/test/1950.png", "--run", "runs/mine"}), "");
  espalier({"draw", "red apple", "--run", "runs/mine", "--out", "drawings"});
  EXPECT_EQ(std::distance(fs::directory_iterator(folder_.file("drawings")), {}), 1);

  write("pictures.jsonl",
        "{\"image\": \"mine/test/1950.png\"}\n{\"image\": \"mine/test/1951.png\"}\n");
  const std::string named =
      espalier({"caption", "--run", "runs/mine", "--jsonl", "pictures.jsonl"});
  EXPECT_NE(named.find("{\"caption\":"), std::string::npos) << named;
  EXPECT_NE(named.find("\"image\":\"mine/test/1951.png\"}"), std::string::npos) << named;
  write("pictures.jsonl", "{\"picture\": \"mine/test/1950.png\"}\n");
  const std::string refused =
      espalier({"caption", "--run", "runs/mine", "--jsonl", "pictures.jsonl"}, 64);
  EXPECT_NE(refused.find("pictures.jsonl:1: expected {\"image\""), std::string::npos) << refused;

  espalier({"checkpoint", "export", "runs/mine", "--to", "decoder", "--decoder", "understanding"});
  EXPECT_NE(read_file(file("decoder/config.json")).find("\"model_type\": \"llama\""),
            std::string::npos);
  EXPECT_TRUE(fs::exists(file("decoder/tokenizer.json")));
}

TEST_F(OwnData, ACsvIndexWithLabelsAsCaptions) {
  std::string table = "file_name,label\n";
  for (int i = 0; i < 100; ++i) {
    write_png(file("pictures/" + std::to_string(i) + ".png"), emoji(i).image);
    table += "pictures/" + std::to_string(i) + ".png,\"" + emoji(i).caption() + "\"\n";
  }
  write("index.csv", table);
  write_config(blocks("toml")[1]);
  train_and_report();
}

TEST_F(OwnData, CompressedTarsWithWebpPictures) {
  for (int shard = 0; shard < 2; ++shard) {
    TarWriter tar(file("shard-" + std::to_string(shard) + ".tar"));
    for (int i = 0; i < 60; ++i) {
      const Sample sample = emoji(60 * shard + i);
      const std::string text = R"({"caption":")" + sample.caption() + "\"}";
      tar.add(std::to_string(i) + ".webp", encode_webp(sample.image, 90));
      tar.add(std::to_string(i) + ".json",
              {reinterpret_cast<const uint8_t*>(text.data()), text.size()});
    }
    tar.finish();
  }
  ASSERT_EQ(std::system(("gzip " + folder_.file("shard-?.tar")).c_str()), 0);
  write_config("[data.mine]\ntrain = \"shard-{0..1}.tar.gz\"\nvalidation = \"shard-1.tar.gz\"\n");
  train_and_report();
}

TEST_F(OwnData, FashionMnistByThePagesOwnScript) {
  const std::string script = blocks("python").front();
  if (!fs::exists("/usr/share/datasets/fashion-mnist")) {
    GTEST_SKIP() << "the package dataset-fashion-mnist is not installed";
  }
  write("make.py", script);
  ASSERT_EQ(std::system(("cd " + folder_.file("") + " && python3 make.py").c_str()), 0);
  write_config(blocks("toml")[4]);
  train_and_report();
}

TEST_F(OwnData, ConversationsAboutPictures) {
  std::string lines;
  for (int i = 0; i < 60; ++i) {
    write_png(file(std::to_string(i) + ".png"), emoji(i).image);
    lines += R"({"image":")" + std::to_string(i) +
             R"(.png","messages":[{"role":"user","content":"What is this?"},)" +
             R"({"role":"assistant","content":"It is )" + emoji(i).caption() + ".\"}]}\n";
  }
  write("talk.jsonl", lines);
  std::string config = blocks("toml").front();
  // A conversation is no caption: the objectives that need one give way to the page's own.
  config = config.substr(0, config.find("[[stage.objectives]]")) + blocks("toml")[2];
  const auto replace_all = [&](const std::string& from, const std::string& to) {
    for (size_t at = config.find(from); at != std::string::npos; at = config.find(from, at + 1)) {
      config.replace(at, from.size(), to);
    }
  };
  replace_all("\"mine/train\"", "\"talk.jsonl\"");
  replace_all("test = \"mine/test\"", "test = \"talk.jsonl\"");
  replace_all("data.mine", "data.talk");
  replace_all("data = \"mine\"", "data = \"talk\"");
  write("mine.toml", config);
  train_and_report();

  write("said.txt", "/image 3.png\nWhat is this?\nAnd what else?\n/quit\n");
  const std::string answers = espalier({"chat", "runs/mine"}, 0, "said.txt");
  EXPECT_NE(answers.find("shown: 3.png"), std::string::npos) << answers;
  write("said.txt", "What is this?\n");
  EXPECT_NE(espalier({"chat", "runs/mine"}, 64, "said.txt").find("no picture is shown yet"),
            std::string::npos);
}

TEST_F(OwnData, ConversationsWithPicturesThatAreDrawn) {
  std::string lines;
  for (int i = 0; i < 60; ++i) {
    for (const int k : {2 * i, 2 * i + 1})
      write_png(file(std::to_string(k) + ".png"), emoji(k).image);
    lines += R"({"images":[")" + std::to_string(2 * i) + R"(.png",")" + std::to_string(2 * i + 1) +
             R"(.png"],"messages":[{"role":"user","content":"<image> what comes next?"},)" +
             R"({"role":"assistant","content":"This: <image>"}]})" + "\n";
  }
  write("talk.jsonl", lines);
  std::string config = blocks("toml").front();
  config = config.substr(0, config.find("[[stage.objectives]]")) + blocks("toml")[3];
  for (const auto& [from, to] : std::vector<std::pair<std::string, std::string>>{
           {"\"mine/train\"", "\"talk.jsonl\""},
           {"test = \"mine/test\"", "test = \"talk.jsonl\""},
           {"data.mine", "data.talk"},
           {"data = \"mine\"", "data = \"talk\""},
           {"text = \"words\"", "text = \"words\"\nmax_pictures = 3"}}) {
    for (size_t at = config.find(from); at != std::string::npos;
         at = config.find(from, at + to.size())) {
      config.replace(at, from.size(), to);
    }
  }
  write("mine.toml", config);
  train_and_report();

  // A picture that is drawn is shown too: the next one follows it.
  write("said.txt", "/image 3.png\n/draw what comes next?\n/draw and then?\n/new\n/quit\n");
  const std::string said = espalier({"chat", "runs/mine", "--out", "drawn"}, 0, "said.txt");
  EXPECT_NE(said.find("forgotten"), std::string::npos) << said;
  EXPECT_EQ(std::distance(fs::directory_iterator(folder_.file("drawn")), {}), 2);
  write("texts.jsonl", R"({"text": "what comes next?", "images": ["3.png"]})"
                       "\n");
  espalier({"draw", "--run", "runs/mine", "--jsonl", "texts.jsonl", "--out", "more"});
  espalier({"draw", "next?", "--image", "4.png", "--image", "5.png", "--run", "runs/mine", "--out",
            "more"});
  EXPECT_EQ(std::distance(fs::directory_iterator(folder_.file("more")), {}), 2);
  write("texts.jsonl", R"({"text": "next?", "images": [3]})"
                       "\n");
  EXPECT_NE(espalier({"draw", "--run", "runs/mine", "--jsonl", "texts.jsonl"}, 64)
                .find("texts.jsonl:1: expected {\"text\""),
            std::string::npos);
}

// The losses of every step, by stage and step, as metrics.jsonl has them.
std::map<std::string, double> losses_of(const std::string& run) {
  std::map<std::string, double> losses;
  for (const json& line : read_metrics(run)) {
    for (const auto& [name, value] : line.at("losses").items()) {
      losses[line.at("stage").get<std::string>() + " " + line.at("step").dump() + " " + name] =
          value.get<double>();
    }
  }
  return losses;
}

TEST_F(OwnData, WhatDoesNotFitIntoMemoryTrainsTheSame) {
  std::vector<std::map<std::string, double>> losses;
  for (const char* memory : {"2048", "1"}) {
    const std::string run = folder_.file(std::string("run-") + memory);
    espalier(
        {"train", source_path("tests/fault/tiny.toml"), "--set", "run.directory=\"" + run + "\"",
         "--set", "data.emoji.train=\"" + source_path("data/emoji/emoji-32-train-*.tar") + "\"",
         "--set",
         "data.emoji.validation=\"" + source_path("data/emoji/emoji-32-validation.tar") + "\"",
         "--set", "data.emoji.test=\"" + source_path("data/emoji/emoji-32-validation.tar") + "\"",
         "--set", std::string("data.emoji.memory_mib=") + memory, "--set",
         "data.emoji.shuffle_window=100", "--set", "stage.codes.steps=20", "--set",
         "log.every_steps=1"});
    losses.push_back(losses_of(run));
  }
  ASSERT_EQ(losses[0].size(), losses[1].size());
  for (const auto& [name, loss] : losses[0]) {
    // The codes of a batch come from one forward pass or from several: rounding may differ.
    const double tolerance = name.starts_with("codes") ? 0 : 1e-3 * std::abs(loss);
    EXPECT_NEAR(losses[1].at(name), loss, tolerance) << name;
  }
}

TEST_F(OwnData, ACaptionThatIsMissingIsToldBeforeAnythingTrains) {
  write_png(file("mine/train/a.png"), emoji(0).image);
  write_png(file("mine/test/a.png"), emoji(0).image);
  write("mine.toml", blocks("toml").front());
  for (const char* command : {"train", "launch"}) {
    const std::string said = espalier(with_sizes({command, "mine.toml"}), 64);
    EXPECT_NE(said.find("data.mine.train"), std::string::npos) << said;
    EXPECT_NE(said.find("field \"caption\" is missing"), std::string::npos) << said;
  }
}

TEST_F(OwnData, TheConfigOfTheFrontPageTrainsOnPicturesWithoutCaptions) {
  for (int i = 0; i < 40; ++i)
    write_png(file("pictures/" + std::to_string(i) + ".png"), emoji(i).image);
  write("mine.toml", blocks_of_page("README.md", "toml").front());
  espalier(with_sizes({"train", "mine.toml"}, /*has_both=*/false));
  EXPECT_NE(read_file(file("runs/mine/run.json")).find("\"finished\""), std::string::npos);
}

}  // namespace
}  // namespace espalier
