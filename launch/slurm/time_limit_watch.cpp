#include "launch/slurm/time_limit_watch.h"

#include <chrono>
#include <utility>

#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>

#include "launch/coordinator/coordinator_files.h"
#include "launch/slurm/program_output.h"
#include "launch/slurm/slurm_job.h"

namespace espalier {
namespace asio = boost::asio;

namespace {

constexpr std::chrono::minutes kAskAgainAfter(5);
constexpr std::chrono::seconds kAnswerWithin(30);

}  // namespace

struct TimeLimitWatch::State {
  State(asio::io_context& c, std::string id, Told t)
      : context(c), timer(c), job_id(std::move(id)), told(std::move(t)) {}
  asio::io_context& context;
  asio::steady_timer timer;
  std::string job_id;
  Told told;  // empty once nobody wants to know
};

TimeLimitWatch::TimeLimitWatch(asio::io_context& context, std::string job_id, Told told)
    : state_(std::make_shared<State>(context, std::move(job_id), std::move(told))) {}

TimeLimitWatch::~TimeLimitWatch() { state_->told = nullptr; }

void TimeLimitWatch::start() {
  if (!state_->job_id.empty()) ask(state_);
}

void TimeLimitWatch::ask(const std::shared_ptr<State>& state) {
  run_program(state->context, show_slurm_job(state->job_id), kAnswerWithin,
              [state](const std::string& text) {
                if (!state->told) return;
                const auto job = parse_slurm_job(text);
                if (job && job->end) state->told(*job->end - unix_time_s());
                state->timer.expires_after(kAskAgainAfter);
                state->timer.async_wait([state](boost::system::error_code error) {
                  if (!error && state->told) ask(state);
                });
              });
}

}  // namespace espalier
