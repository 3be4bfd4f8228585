import { FlagList, Flags } from './flags';

// A server component: rendered without a connection, live after hydration.
export default function Page() {
  return (
    <Flags projectId="f1a9c457-0001-4000-8000-000000000001">
      <h1>Flags</h1>
      <FlagList />
    </Flags>
  );
}
