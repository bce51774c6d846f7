#include "trainer/update/loss_meter.h"

#include "trainer/record/json_field.h"

namespace espalier {

LossMeter::LossMeter(const std::vector<StageLoss>& losses) {
  for (const StageLoss& loss : losses) entries_.push_back({.loss = loss});
}

void LossMeter::add(const std::vector<double>& sums, const std::vector<double>& targets) {
  for (size_t i = 0; i < entries_.size(); ++i) {
    if (targets[i] <= 0) continue;
    Entry& entry = entries_[i];
    entry.sum += sums[i];
    entry.targets += targets[i];
    entry.newest = entry.sum / entry.targets;
    entry.was_drawn = true;
  }
}

void LossMeter::start_interval() {
  for (Entry& entry : entries_) entry.sum = entry.targets = 0;
}

std::map<std::string, double> LossMeter::means() const {
  std::map<std::string, double> means;
  for (const Entry& entry : entries_) {
    if (entry.targets > 0) means[entry.loss.name] = entry.newest;
  }
  return means;
}

double LossMeter::total() const {
  double total = 0;
  for (const Entry& entry : entries_) {
    if (entry.was_drawn) total += entry.loss.weight * entry.newest;
  }
  return total;
}

nlohmann::json LossMeter::state() const {
  nlohmann::json state = nlohmann::json::object();
  for (const Entry& entry : entries_) {
    if (!entry.was_drawn) continue;
    state[entry.loss.name] = {
        {"sum", entry.sum}, {"targets", entry.targets}, {"newest", entry.newest}};
  }
  return state;
}

void LossMeter::restore(const nlohmann::json& state) {
  for (Entry& entry : entries_) {
    if (!state.is_object() || !state.contains(entry.loss.name)) continue;
    const nlohmann::json& saved = state.at(entry.loss.name);
    read_field(saved, "sum", &entry.sum);
    read_field(saved, "targets", &entry.targets);
    read_field(saved, "newest", &entry.newest);
    entry.was_drawn = true;
  }
}

}  // namespace espalier
