#include <cstdio>
#include <filesystem>

#include "launch/commands/commands.h"
#include "launch/protocol/failure_class.h"
#include "launch/report/findings_page.h"
#include "trainer/checkpoint/durable_file.h"
#include "trainer/errors.h"
#include "trainer/interference/diagnosis.h"
#include "trainer/record/json_text.h"

namespace espalier {

int run_diagnose(const DiagnoseArguments& arguments) {
  const std::vector<StageDiagnosis> stages = diagnose_run(arguments.run);
  std::vector<Finding> findings;
  nlohmann::json all = nlohmann::json::array();
  for (const StageDiagnosis& stage : stages) {
    for (Finding& finding : findings_of(stage)) findings.push_back(std::move(finding));
    all.push_back(to_json(stage));
  }
  const std::string page =
      arguments.html.empty() ? arguments.run + "/diagnosis.html" : arguments.html;
  const std::string name = std::filesystem::path(arguments.run + "/.").parent_path().filename();
  try {
    replace_durably(page, findings_page(name + ": interference between objectives", findings));
  } catch (const StorageError& error) {  // a folder that is not ours to write
    throw ConfigError(error.what());
  }
  if (arguments.as_json) {
    std::printf("%s\n", json_text(all, 2).c_str());
  } else {
    std::fputs(findings_text(findings).c_str(), stdout);
  }
  std::fprintf(stderr, "%s\n", page.c_str());
  return kExitDone;
}

}  // namespace espalier
