#include "launch/slurm/slurm_job.h"

#include <charconv>
#include <chrono>
#include <map>
#include <sstream>

#include "launch/slurm/program_output.h"

namespace espalier {
namespace {

constexpr std::chrono::seconds kPatience(10);

std::map<std::string, std::string> fields_of(std::string_view text) {
  std::map<std::string, std::string> fields;
  std::istringstream words{std::string(text)};
  for (std::string word; words >> word;) {
    const auto equals = word.find('=');
    if (equals != std::string::npos)
      fields.emplace(word.substr(0, equals), word.substr(equals + 1));
  }
  return fields;
}

std::optional<double> whole_number(const std::string& text) {
  int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return static_cast<double>(value);
}

}  // namespace

std::string slurm_job_id(const std::function<const char*(const char*)>& environment) {
  const char* array = environment("SLURM_ARRAY_JOB_ID");
  const char* task = environment("SLURM_ARRAY_TASK_ID");
  if (array != nullptr && task != nullptr) return std::string(array) + "_" + task;
  const char* id = environment("SLURM_JOB_ID");
  return id == nullptr ? "" : id;
}

std::vector<std::string> show_slurm_job(const std::string& id) {
  return {"env", "SLURM_TIME_FORMAT=%s", "scontrol", "--oneliner", "show", "job", id};
}

std::optional<SlurmJob> parse_slurm_job(std::string_view text) {
  const auto fields = fields_of(text);
  const auto field = [&](const char* name) {
    const auto found = fields.find(name);
    return found == fields.end() ? std::string() : found->second;
  };
  if (field("JobId").empty() || field("JobState").empty()) return std::nullopt;
  SlurmJob job;
  job.state = field("JobState");
  job.reason = field("Reason");
  job.is_batch = field("BatchFlag") != "0";
  job.may_requeue = field("Requeue") == "1";
  job.restarts = static_cast<int>(whole_number(field("Restarts")).value_or(0));
  job.end = whole_number(field("EndTime"));
  return job;
}

std::optional<SlurmJob> ask_slurm_job(const std::string& id) {
  return parse_slurm_job(program_output(show_slurm_job(id), kPatience));
}

}  // namespace espalier
