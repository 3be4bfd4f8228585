/** The project of most screenshots. */
export const shop = 'f1a9c457-0001-4000-8000-000000000001';
const mobile = 'f1a9c457-0001-4000-8000-000000000002';
const billing = 'f1a9c457-0001-4000-8000-000000000003';

/** The flag with an open request. */
export const requestedFlag = 'guest-checkout';

/** Number of changes in the last half hour. */
const changesMade = 70;

/**
 * Changes flags in stage and requests changes in prod, as several users.
 * @param {import('./demo-server.js').DemoServer} demo
 */
export async function simulateActivity(demo) {
  const keys = (await demo.features(shop, 'stage')).map(({ key }) => key);
  const people = ['bob', 'alice', 'bob', 'root'];
  for (let index = 0; index < changesMade; index += 1) {
    const key = keys[(index * 7) % keys.length] ?? '';
    const person = people[index % people.length] ?? '';
    await demo.change(person, shop, 'stage', key, ({ enabled }) => ({ enabled: !enabled }));
  }
  // Spreads the changes, which were made within seconds, over half an hour.
  await demo.sql(`
    UPDATE audit_log SET created_at = now() - make_interval(secs =>
      (newest.id - audit_log.id) * 24 * (1 + sin(audit_log.id / 5.0) / 3))
    FROM (SELECT max(id) AS id FROM audit_log) newest
    WHERE audit_log.id > newest.id - ${changesMade}`);

  await demo.cancelRequests(() => true);
  /** @type {[string, string, string, string, object][]} */
  const requests = [
    ['dave', billing, 'dunning-schedule', 'Two big customers asked for it', { enabled: false }],
    ['bob', mobile, 'biometric-login', 'Stage has been fine for a week', {}],
    ['alice', shop, 'free-shipping-threshold', 'Agreed with marketing', { default_value: '49' }],
    ['bob', shop, requestedFlag, 'The error rate went up after the last deployment', {}],
  ];
  for (const [person, project, wanted, reason, change] of requests) {
    const features = await demo.features(project, 'prod');
    const key = features.find((each) => each.key === wanted)?.key ?? features[3]?.key ?? '';
    await demo.change(person, project, 'prod', key, ({ enabled }) => ({
      enabled: !enabled,
      ...change,
      reason,
    }));
  }
}
