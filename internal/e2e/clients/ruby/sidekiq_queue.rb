# Sidekiq as a queue alone: ADDRESS QUEUE add, the numbers of whose jobs it reads, or ADDRESS QUEUE work HOW-MANY. It prints what
# it has done, a number a line, each as often as it was done.
require "sidekiq"
require "sidekiq/cli"

ADDRESS, QUEUE, WHAT, *NUMBERS = ENV["QUEUE_ARGS"] ? ENV["QUEUE_ARGS"].split : ARGV
Sidekiq.logger.level = Logger::ERROR
url = { url: "redis://#{ADDRESS}/0" }
Sidekiq.configure_client { |c| c.redis = url }
Sidekiq.configure_server { |c| c.redis = url }

class Count
  include Sidekiq::Worker
  sidekiq_options queue: QUEUE

  def perform(n)
    $stdout.syswrite("#{n}\n")
  end
end

return if ENV["QUEUE_ARGS"] # loaded by the worker

if WHAT == "add"
  $stdin.each_line do |n|
    finish = Time.now + 60
    begin
      Count.perform_async(n.to_i)
    rescue Redis::BaseConnectionError
      raise if Time.now > finish
      sleep 0.02
      retry
    end
    $stdout.syswrite(n)
  end
else
  done = {}
  IO.popen([{ "QUEUE_ARGS" => ARGV.join(" "), "RUBYOPT" => "-W0" }, "sidekiq", "-r", File.expand_path(__FILE__),
            "-q", QUEUE, "-c", "3", "-t", "5"]) do |worker|
    worker.each_line do |line|
      next unless line.match?(/\A\d+\n\z/) # what it logs as it starts
      $stdout.syswrite(line)
      done[line] = true
      Process.kill("TERM", worker.pid) if done.size == NUMBERS[0].to_i
    end
  end
end
