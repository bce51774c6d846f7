#include "launch/worker/control_channel.h"

#include <filesystem>

#include "launch/coordinator/journal.h"

namespace espalier {
namespace {

constexpr auto kTimeForBye = std::chrono::seconds(2);

// Both lie in the run directory, which a rank must not create (CoordinatorFiles would).
std::string journal_beside(const std::string& address_file) {
  return (std::filesystem::path(address_file).parent_path() / "coordinator.journal").string();
}

}  // namespace

ControlChannel::ControlChannel(const Options& options)
    : is_first_(options.rank == 0),
      mailbox_(options.rank,
               [journal = journal_beside(options.address_file), generation = options.generation] {
                 return is_newest_generation(journal, generation);
               }),
      connection_(options, mailbox_) {}

void ControlChannel::on_phase(Phase phase) { mailbox_.set_phase(phase); }

void ControlChannel::on_work(const WorkReport& report) { mailbox_.set_work(report); }

void ControlChannel::on_step(const StepReport& report) { mailbox_.set_step(report); }

bool ControlChannel::stop_requested() { return mailbox_.stop_requested(); }

bool ControlChannel::is_cut_off() { return mailbox_.is_cut_off(); }

bool ControlChannel::approve_commit(int64_t global_step) {
  mailbox_.ask_to_commit(global_step);
  connection_.wake();
  return mailbox_.wait_for_permission(global_step);
}

void ControlChannel::on_committed(int64_t global_step) {
  if (is_first_) send(CheckpointCommittedMessage{global_step});
}

void ControlChannel::on_checkpoint_failed(int64_t global_step, const std::string& why) {
  if (is_first_) send(CheckpointFailedMessage{global_step, why});
}

void ControlChannel::report_error(FailureClass failure_class, const std::string& what) {
  send(ErrorReportMessage{failure_class, what});
}

void ControlChannel::finish(int exit_code) {
  send(ByeMessage{exit_code});
  mailbox_.wait_until_sent(kTimeForBye);
}

}  // namespace espalier
