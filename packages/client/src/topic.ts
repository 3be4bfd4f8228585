/**
 * Something to listen to: how to listen, which returns how to stop, and how to tell all listeners. A
 * listener that throws is reported, and stops neither the others nor whoever tells.
 */
export function createTopic<News = void>(
  report: (error: unknown) => void,
): readonly [(listener: (news: News) => void) => () => void, (news: News) => void] {
  const listeners = new Set<(news: News) => void>();
  return [
    (listener) => {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    (news) => {
      // A copy: a listener that takes itself off and on again would else be met for ever.
      for (const listener of [...listeners]) {
        try {
          listener(news);
        } catch (error) {
          report(error);
        }
      }
    },
  ];
}
