/** The samples of /metrics by name and labels, from the Prometheus text format; throws for an invalid line. */
export async function scrape(httpUrl: string): Promise<Map<string, number>> {
  const response = await fetch(`${httpUrl}/metrics`);
  const type = response.headers.get('content-type');
  if (response.status !== 200 || type !== 'text/plain; version=0.0.4; charset=utf-8') {
    throw new Error(`not an answer for Prometheus: ${response.status}, ${type}`);
  }
  const samples = new Map<string, number>();
  for (const line of (await response.text()).split('\n')) {
    if (line === '' || /^# (HELP|TYPE) flagcast_\w+ /.test(line)) continue;
    const sample = /^(flagcast_\w+(?:\{(?:\w+="[^"\\]*",?)*\})?) (\S+)$/.exec(line);
    const [, name, value] = sample ?? [];
    if (name === undefined || Number.isNaN(Number(value))) throw new Error(`not a sample: ${line}`);
    samples.set(name, Number(value));
  }
  return samples;
}
