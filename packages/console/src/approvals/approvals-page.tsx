import { Alert, Center, Loader, Stack, Text, Title } from '@mantine/core';
import { ApprovalIcon } from '../shell/icons.js';
import { describeError } from '../shell/messages.js';
import { useTexts } from '../texts/texts.js';
import { ChangeCard } from './change-card.js';
import { useOpenChanges } from './open-changes.js';

/** All that waits, over all projects and environments; what has been decided meanwhile stays, and says so. */
export default function ApprovalsPage() {
  const { t } = useTexts();
  const { all, open, error, loading } = useOpenChanges();
  return (
    <Stack gap="md">
      <div>
        <Title order={1}>{t.shell.approvals}</Title>
        <Text size="sm" c="dimmed">
          {t.approvals.countLabel(open.length)}
        </Text>
      </div>
      {error !== null && (
        <Alert color="red" role="alert">
          {describeError(error, t)}
        </Alert>
      )}
      {loading && <Loader role="status" aria-label={t.shell.loading} />}
      {!loading && all.length === 0 && error === null && (
        <Center mih={240}>
          <Stack align="center" gap="xs" c="dimmed">
            <ApprovalIcon size={40} />
            <Text>{t.approvals.none}</Text>
          </Stack>
        </Center>
      )}
      {all.map((change) => (
        <ChangeCard key={change.id} change={change} withPlace />
      ))}
    </Stack>
  );
}
