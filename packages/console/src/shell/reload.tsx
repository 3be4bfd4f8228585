import { Button, type ButtonProps } from '@mantine/core';
import { useState } from 'react';
import { useAppServices } from '../sign-in/app-services.js';
import { useI18n } from '../i18n/i18n.js';

/** Reloads the page, but only from a server that responds: the browser's own error page would replace this one. */
export function ReloadButton(props: ButtonProps) {
  const { t } = useI18n();
  const { basePath } = useAppServices();
  const [isUnreachable, setUnreachable] = useState(false);
  const [busy, setBusy] = useState(false);
  const reload = async (): Promise<void> => {
    setBusy(true);
    const response = await fetch(`${basePath}/`, { method: 'HEAD', cache: 'no-store' }).catch(() => null);
    setBusy(false);
    if (response?.ok === true) location.reload();
    else setUnreachable(true);
  };
  return (
    <>
      {isUnreachable && <span role="status">{t.errors.unreachable}</span>}
      <Button {...props} loading={busy} onClick={() => void reload()}>
        {t.shell.reload}
      </Button>
    </>
  );
}
