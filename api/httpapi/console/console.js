'use strict';

// Everything shown is set as text, never as markup: names come from other hosts.

const REFRESH = 1000; // milliseconds
const PATIENCE = 5000; // until a peer that does not answer is called away

const $ = (id) => document.getElementById(id);
const text = (id, value) => { $(id).textContent = value; };
const count = (n) => Number(n).toLocaleString('en');

function bytes(n) {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  let unit = 0;
  for (; n >= 1024 && unit < units.length - 1; unit++) n /= 1024;
  return (unit === 0 || n >= 100 ? Math.round(n) : n.toFixed(1)) + ' ' + units[unit];
}

function ago(when) {
  const seconds = Math.max(0, Math.round((Date.now() - new Date(when)) / 1000));
  if (seconds < 60) return seconds + ' s';
  if (seconds < 3600) return Math.floor(seconds / 60) + ' min';
  if (seconds < 86400) return Math.floor(seconds / 3600) + ' h';
  return Math.floor(seconds / 86400) + ' d';
}

// A colour for a hash, so that two pages side by side can be compared at a glance.
function colour(id, hash) {
  $(id).style.backgroundColor = `hsl(${parseInt(hash.slice(0, 6), 16) % 360} 65% 50%)`;
}

function pill(ok, label) {
  const el = document.createElement('span');
  el.className = 'pill ' + (ok ? 'good' : 'bad');
  el.textContent = label;
  return el;
}

// row makes a table row of values; those of nodes are put in as they are, numbers to the right.
function row(...values) {
  const tr = document.createElement('tr');
  for (const value of values) {
    const td = document.createElement('td');
    if (typeof value === 'number') td.className = 'n';
    td.append(typeof value === 'number' ? count(value) : value);
    tr.append(td);
  }
  return tr;
}

function member(m) {
  const rtt = document.createElement('span');
  rtt.textContent = m.rtt_ms != null ? m.rtt_ms.toFixed(1) + ' ms' : '–';
  const state = !m.alive ? 'away' : m.problem ? m.problem : m.linked ? 'alive' : 'alive, no link';
  const tr = row(m.name, m.addr, pill(m.alive, state), ago(m.since), rtt, m.they_lack ?? '–', m.we_lack ?? '–');
  tr.children[4].className = 'n';
  tr.title = m.peer_id;
  return tr;
}

function state(s) {
  const wrong = s.problems.length;
  const label = !s.ready ? 'not ready: ' + s.reason : wrong ? `ready, ${wrong} problem${wrong > 1 ? 's' : ''}`
    : s.settled ? 'ready' : 'ready, sweeping';
  $('state').replaceWith(Object.assign(pill(s.ready && !wrong, label), { id: 'state' }));
}

function alarmsOf(space) {
  const out = space.forks.map((f) => `Writes of replica ${f.replica} of space ${space.space} were issued twice.`);
  if (space.held_log_bytes > 0) {
    out.push(`Space ${space.space} is damaged, waits to be rebuilt and holds ${bytes(space.held_log_bytes)} of the log.`);
  }
  return out;
}

function repairOf(space, members) {
  const r = space.repairing;
  const from = (members.find((m) => m.peer_id === r.from) || { name: r.from }).name;
  const far = r.of ? `${count(r.cells)} of ${count(r.of)} cells, ` : '';
  const left = r.seconds_left ? `, ${count(Math.round(r.cells_per_second))} cells/s, ${Math.ceil(r.seconds_left)} s left` : '';
  return `Space ${space.space} is repaired from ${from}: ${far}${bytes(r.bytes)}${left}.`;
}

function show(s) {
  document.title = s.name + ' · peerd';
  text('name', s.name);
  text('peer-id', s.peer_id);
  state(s);
  for (const id of ['keys', 'cells', 'commits']) text(id, count(s[id]));
  text('sent', bytes(s.bytes_sent));
  text('received', bytes(s.bytes_received));
  text('disk', bytes(s.store_bytes));
  text('context', s.context_hash);
  text('root', s.root);
  colour('context-colour', s.context_hash);
  colour('root-colour', s.root);
  text('replica', s.replica);
  text('gossip', s.gossip_addr || 'offline');
  const alarms = s.problems.map((p) => `${p.what}. ${p.do}`).concat(s.spaces.flatMap(alarmsOf));
  const repairs = s.spaces.filter((of) => of.repairing).map((of) => repairOf(of, s.members));
  $('repairs').hidden = repairs.length === 0;
  text('repairs', repairs.join(' '));
  $('alarm').hidden = alarms.length === 0;
  text('alarm', alarms.join(' '));
  $('members').replaceChildren(...s.members.map(member));
  $('alone').hidden = s.members.length > 0;
  const vector = Object.entries(s.version_vector).sort(([a], [b]) => (a < b ? -1 : 1));
  $('vector').replaceChildren(...vector.map(([id, n]) => row(id, n)));
}

async function refresh() {
  try {
    const answer = await fetch('v1/status', { signal: AbortSignal.timeout(PATIENCE) });
    const body = await answer.json();
    if (!answer.ok) throw new Error(body.error);
    show(body);
  } catch (error) {
    $('state').replaceWith(Object.assign(pill(false, 'no answer'), { id: 'state', title: error.message }));
  }
  setTimeout(refresh, REFRESH);
}

refresh();
