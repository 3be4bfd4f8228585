import { Alert, Button, Group } from '@mantine/core';
import { isTemporary } from '../api/retry.js';
import { useI18n } from '../i18n/i18n.js';
import { describeError } from '../api/api.js';

interface FailureAlertProps {
  readonly error: unknown;
  readonly onRetry: () => void;
}

/** Shows why data could not be loaded, with a button to retry if that may help. */
export function FailureAlert({ error, onRetry }: FailureAlertProps) {
  const { t } = useI18n();
  return (
    <Alert color="red" role="alert">
      <Group justify="space-between">
        {describeError(error, t)}
        {isTemporary(error) && (
          <Button size="xs" variant="default" onClick={onRetry}>
            {t.shell.tryAgain}
          </Button>
        )}
      </Group>
    </Alert>
  );
}
