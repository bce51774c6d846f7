#pragma once

#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "data/test_files.h"
#include "fault/program.h"

namespace espalier {

// One command of the program after another, and what it said.
class CommandTest : public testing::Test {
 protected:
  static constexpr double kPatience_s = 300;

  struct Result {
    int exit_code;
    std::string output;  // standard output and error
  };

  Result command(std::vector<std::string> arguments) {
    Program program(std::move(arguments), folder_.file("output-" + std::to_string(count_++)));
    const int exit_code = program.wait(kPatience_s);
    return {exit_code, program.output()};
  }
  Result espalier(std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), ESPALIER_PROGRAM);
    return command(std::move(arguments));
  }
  static void expect_said(const Result& result, const std::string& message) {
    EXPECT_NE(result.output.find(message), std::string::npos)
        << "\"" << message << "\" is not in:\n"
        << result.output.substr(0, 4000);
  }
  static void expect_refused(const Result& result, const std::string& message) {
    EXPECT_EQ(result.exit_code, 64);
    expect_said(result, message);
  }
  static std::string tiny() { return source_path("tests/fault/tiny.toml"); }
  std::string run() const { return folder_.file("run"); }

  TemporaryFolder folder_;
  int count_ = 0;
};

}  // namespace espalier
