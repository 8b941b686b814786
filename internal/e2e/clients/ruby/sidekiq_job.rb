# Sidekiq: a client and a worker: jobs, one at a later time, one that is tried again, a bulk.
require "sidekiq"
require "sidekiq/api"
require "sidekiq/cli"

ADDRESS = ENV["JOB_ADDRESS"] || ARGV[0]
QUEUE = ENV["JOB_QUEUE"] || "job-sidekiq-#{Process.pid}"
Sidekiq.configure_client { |c| c.redis = { url: "redis://#{ADDRESS}/2" } }
Sidekiq.configure_server do |c|
  c.redis = { url: "redis://#{ADDRESS}/2" }
  c.options[:poll_interval_average] = 1
end

class Note
  include Sidekiq::Worker
  sidekiq_options queue: QUEUE, retry: 3
  sidekiq_retry_in { 1 } # 0 is a quarter of a minute

  def perform(what, tries = 0)
    Sidekiq.redis do |r|
      seen = r.hincrby("#{QUEUE}:done", what, 1)
      raise "at first" if seen <= tries
    end
  end
end

return if ENV["JOB_QUEUE"] # loaded by the worker

def eventually(what)
  finish = Time.now + 60
  until yield
    raise "did not come about: #{what}" if Time.now > finish
    sleep 0.02
  end
end

worker = Process.spawn({ "JOB_QUEUE" => QUEUE, "JOB_ADDRESS" => ADDRESS, "RUBYOPT" => "-W0" },
                       "sidekiq", "-r", File.expand_path(__FILE__), "-q", QUEUE, "-c", "3", "-t", "5",
                       out: "/dev/null")
begin
  Note.perform_async("now")
  Note.perform_in(1, "later")
  Note.perform_async("flaky", 1)
  Sidekiq::Client.push_bulk("class" => Note, "args" => (1..50).map { |i| ["bulk"] })
  done = -> { Sidekiq.redis { |r| r.hgetall("#{QUEUE}:done") } }
  eventually("all jobs ran") { done.call == { "now" => "1", "later" => "1", "flaky" => "2", "bulk" => "50" } }
  raise "jobs are left" unless Sidekiq::Queue.new(QUEUE).size.zero?
ensure
  Process.kill("TERM", worker)
  Process.wait(worker)
end
